package main

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"
)

const releaseURL = "https://github.com/microsoft/onnxruntime/releases/download/v" + v + "/"

// download gets the pin's archive into dir and returns its path.
func (p pin) download(ctx context.Context, dir string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	switch p.source {
	case "pip":
		client, err := pip(ctx)
		if err != nil {
			return "", err
		}
		// The tags are spelled out so that any Python, of any version, gets the same wheel.
		return runClient(ctx, dir, "*.whl", append(client, "download", "--quiet", "--disable-pip-version-check", "--no-deps",
			"--only-binary=:all:", "--implementation=cp", "--python-version=3.11", "--abi=cp311", "--platform="+p.wheel,
			"--dest="+dir, "onnxruntime=="+v))
	case "npm":
		client, err := exec.LookPath("npm")
		if err != nil {
			return "", errors.New("npm is not installed")
		}
		return runClient(ctx, dir, "*.tgz", []string{client, "pack", "--silent", "--pack-destination=" + dir, "onnxruntime-node@" + v})
	default:
		path := filepath.Join(dir, p.release)
		return path, get(ctx, releaseURL+p.release, path)
	}
}

// pip is how pip is called on this machine: by one of its names, or as a module.
func pip(ctx context.Context) ([]string, error) {
	for _, name := range []string{"pip3", "pip"} {
		if path, err := exec.LookPath(name); err == nil {
			return []string{path}, nil
		}
	}
	for _, name := range []string{"python3", "python"} {
		if path, err := exec.LookPath(name); err == nil && exec.CommandContext(ctx, path, "-m", "pip", "--version").Run() == nil {
			return []string{path, "-m", "pip"}, nil
		}
	}
	return nil, errors.New("pip is not installed")
}

// runClient runs a package manager and finds the one file that it left.
func runClient(ctx context.Context, dir, pattern string, command []string) (string, error) {
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Dir = dir // away from the project's own package files
	cmd.Stderr = &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s", filepath.Base(command[0]), err, lastLines(stderr.String(), 3))
	}
	found, err := filepath.Glob(filepath.Join(dir, pattern))
	if err != nil || len(found) != 1 {
		return "", fmt.Errorf("%s left %d files %s", filepath.Base(command[0]), len(found), pattern)
	}
	return found[0], nil
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "; ")
}

func get(ctx context.Context, url, path string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, resp.Body)
	return errors.Join(err, f.Close())
}

// maxLibrary bounds what is unpacked.
const maxLibrary = 256 << 20

// extract writes one member of a zip (wheel) or tar.gz archive to a file.
func extract(archive, member, target string) error {
	var err error
	if strings.HasSuffix(archive, ".whl") {
		err = fromZip(archive, member, target)
	} else {
		err = fromTar(archive, member, target)
	}
	if err != nil {
		return fmt.Errorf("unpack %s: %w", filepath.Base(archive), err)
	}
	return nil
}

func fromZip(archive, member, target string) error {
	z, err := zip.OpenReader(archive)
	if err != nil {
		return err
	}
	defer z.Close()
	r, err := z.Open(member)
	if err != nil {
		return err
	}
	defer r.Close()
	return writeFile(target, r)
}

func fromTar(archive, member, target string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer f.Close()
	gz, err := gzip.NewReader(f)
	if err != nil {
		return err
	}
	for t := tar.NewReader(gz); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("has no %s", member)
		}
		if err != nil {
			return err
		}
		if strings.TrimPrefix(h.Name, "./") == member && h.Typeflag == tar.TypeReg {
			return writeFile(target, t)
		}
	}
}

func writeFile(path string, r io.Reader) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(r, maxLibrary+1))
	if err == nil && n > maxLibrary {
		err = fmt.Errorf("larger than %d MB", maxLibrary>>20)
	}
	return errors.Join(err, f.Close())
}

func hashFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
}
