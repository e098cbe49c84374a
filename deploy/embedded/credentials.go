package embedded

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/tidemill/tidemill/internal/secret"
)

// storedCredentials is credentials.json. It is the one place where the secret is
// written down, so it does not use the type that refuses to be.
type storedCredentials struct {
	AccessKey string `json:"access_key"`
	SecretKey string `json:"secret_key"`
}

// credentials returns the given ones, or those of file, generated if there are none.
func credentials(o Options, file string) (access string, key secret.String, err error) {
	if o.AccessKey != "" {
		return o.AccessKey, o.SecretKey, nil
	}
	data, err := os.ReadFile(file)
	if err == nil {
		var c storedCredentials
		if json.Unmarshal(data, &c) != nil || c.AccessKey == "" || c.SecretKey == "" {
			return "", secret.String{}, fmt.Errorf("%s is damaged; remove it to have new credentials generated", file)
		}
		return c.AccessKey, secret.New(c.SecretKey), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return "", secret.String{}, err
	}
	c := storedCredentials{AccessKey: "tidemill-" + rand.Text()[:8], SecretKey: rand.Text() + rand.Text()}
	if data, err = json.MarshalIndent(c, "", "  "); err != nil {
		return "", secret.String{}, err
	}
	if err := writeFile(file, append(data, '\n')); err != nil {
		return "", secret.String{}, err
	}
	return c.AccessKey, secret.New(c.SecretKey), nil
}

// writeFile writes a small file so that it is there as a whole or not at all.
func writeFile(path string, data []byte) error {
	f, err := os.OpenFile(path+".tmp", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, werr := f.Write(data)
	if err := errors.Join(werr, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".tmp", path)
}
