package secret_test

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tidemill/tidemill/internal/secret"
)

func TestScrub(t *testing.T) {
	const value = `hunter2/"x y"&?`
	secret.Note(value)
	secret.Note("bird")
	secret.Note("tidemill")
	for text, want := range map[string]string{
		"the value " + value + ".":                                    "the value ***.",
		"in JSON: {\"a\":\"hunter2/\\\"x y\\\"\\u0026?\"}":            `in JSON: {"a":"***"}`,
		"in a query: ?p=hunter2%2F%22x+y%22%26%3F&q":                  "in a query: ?p=***&q",
		"bird has birds":                                              "*** has birds",
		"tidemill.yaml at amqp://tidemill:tidemill@host":              "tidemill.yaml at amqp://***@host",
		"dial amqp://user:s3cret@host:5672/: refused":                 "dial amqp://***@host:5672/: refused",
		"dial nats://token@host":                                      "dial nats://***@host",
		"mongodb://u:p@ss@h1:1,h2:2/db":                               "mongodb://***@h1:1,h2:2/db",
		`parse "redis://:pa/ss%zz@h:1": invalid`:                      `parse "redis://***@h:1": invalid`,
		"user:pw@tcp(host:3306)/db":                                   "***@tcp(host:3306)/db",
		"host=h user=u password=pw dbname=d":                          "host=h user=u password=*** dbname=d",
		"GET http://h/x?access_token=abc&n=1":                         "GET http://h/x?access_token=***&n=1",
		"Authorization: Bearer abcDEF123456":                          "Authorization: Bearer ***",
		"use basic authentication":                                    "use basic authentication",
		"store.secret_key: missing; it goes with access_key":          "store.secret_key: missing; it goes with access_key",
		"tidemill.yaml:3: input.amqp_0_9.urls: no such host: a@b.c":   "tidemill.yaml:3: input.amqp_0_9.urls: no such host: a@b.c",
		"score.model: no model fraud@champion; register it: m@1, m@2": "score.model: no model fraud@champion; register it: m@1, m@2",
	} {
		if got := secret.Scrub(text); got != want {
			t.Errorf("%s\n gives %s\n want  %s", text, got, want)
		}
	}
}

func TestHandler(t *testing.T) {
	const value = "planted-in-the-log"
	secret.Note(value)
	var out bytes.Buffer
	for _, h := range []slog.Handler{slog.NewTextHandler(&out, nil), slog.NewJSONHandler(&out, nil)} {
		log := slog.New(secret.Handler(h)).With("a", value, "g", slog.GroupValue(slog.String("x", value))).WithGroup("G")
		log.Info("message "+value, "err", fmt.Errorf("%w: %s", fs.ErrNotExist, value), "list", []string{"b", value}, "map", map[string]any{"k": value},
			"struct", struct{ V string }{value}, "url", "kafka://u:pass-word@h", "list2", []string{"c", "d"})
	}
	text := out.String()
	if strings.Contains(text, value) || strings.Contains(text, "pass-word") {
		t.Errorf("comes out:\n%s", text)
	}
	if !strings.Contains(text, `"list2":["c","d"]`) {
		t.Errorf("a list without a secret is not as it was:\n%s", text)
	}
}

func TestScrubError(t *testing.T) {
	secret.Note("planted-in-an-error")
	err := secret.ScrubError(fmt.Errorf("planted-in-an-error: %w", &fs.PathError{Op: "open", Path: "x", Err: fs.ErrNotExist}))
	if err.Error() != "***: open x: file does not exist" || !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, ok := errors.AsType[*fs.PathError](err); !ok {
		t.Error("the type is gone")
	}
}

func TestResolve(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{"pw": "  from-a-file\n", "empty": " \n", "binary": "\xff\x00"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for reference, want := range map[string]string{
		"${file:pw}":                          "from-a-file",
		"${file:" + filepath.Join(dir, "pw}"): "from-a-file",
		"${cmd:cat pw}":                       "from-a-file",
		"${cmd: printf 'two\\nlines\\n'}":     "two\nlines",
		"${file:}":                            "! ${file:} names nothing; write ${file:/run/secrets/name} or ${cmd:command}",
		"${file:gone}":                        "! the file gone does not exist; put the value there",
		"${file:.}":                           "! the file . cannot be read: is a directory",
		"${file:empty}":                       "! the file empty is empty; put the value there",
		"${file:binary}":                      "! the file binary is not text; put the value there as UTF-8",
		"${cmd:cat pw; cat pw >&2; exit 3}":   "! the command `cat pw; cat pw >&2; exit 3` fails with exit status 3; run it by hand to see why",
		"${cmd:head -c 100000 /dev/zero}":     "! the command `head -c 100000 /dev/zero` gives more than 65536 bytes; is it the right one?",
	} {
		got, err := secret.Resolve(dir, reference)
		if err != nil {
			got = "! " + err.Error()
		}
		if got != want {
			t.Errorf("%s\n gives %s\n want  %s", reference, got, want)
		}
	}
	if got := secret.Scrub("it is from-a-file, and lines"); got != "it is ***, and lines" {
		t.Error(got)
	}
}
