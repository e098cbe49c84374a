package secret_test

import (
	"bytes"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/secret"
)

func TestNeverPrinted(t *testing.T) {
	const value = "hunter2-hunter2"
	s := secret.New(value)
	type config struct {
		User string
		Key  secret.String
		Ptr  *secret.String
		keep secret.String
	}
	c := config{User: "u", Key: s, Ptr: &s, keep: s}

	var out []string
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%40s", "%-3.1s", "%t"} {
		out = append(out, fmt.Sprintf(verb, s), fmt.Sprintf(verb, &s), fmt.Sprintf(verb, c.Key), fmt.Sprintf(verb, []secret.String{s}))
	}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		out = append(out, fmt.Sprintf(verb, c), fmt.Sprintf(verb, map[string]any{"k": s}))
	}
	j, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	x, err := xml.Marshal(s)
	if err != nil {
		t.Fatal(err)
	}
	y, _ := s.MarshalYAML()
	out = append(out, string(j), string(x), fmt.Sprint(y), s.String(), s.GoString(), errors.Join(fmt.Errorf("with %v", s)).Error())

	var text, jlog bytes.Buffer
	slog.New(slog.NewTextHandler(&text, nil)).Info("m", "k", s, "c", c)
	slog.New(slog.NewJSONHandler(&jlog, nil)).Info("m", "k", s, "c", c)
	out = append(out, text.String(), jlog.String())

	for _, o := range out {
		// %x of the value is a leak too.
		if strings.Contains(o, value) || strings.Contains(o, fmt.Sprintf("%x", value)) || strings.Contains(o, fmt.Sprintf("%X", value)) {
			t.Errorf("value printed: %s", o)
		}
	}
}

func TestReadFromJSON(t *testing.T) {
	var c struct{ Key secret.String }
	if err := json.Unmarshal([]byte(`{"Key":"abc"}`), &c); err != nil {
		t.Fatal(err)
	}
	if c.Key.Reveal() != "abc" || c.Key.Empty() || !(secret.String{}).Empty() {
		t.Fatal("secret was not read from JSON")
	}
	if c.Key != secret.New("abc") || c.Key == secret.New("abd") || secret.New("") != (secret.String{}) {
		t.Fatal("secrets do not compare by value")
	}
}
