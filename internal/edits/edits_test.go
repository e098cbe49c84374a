package edits

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func look(t *testing.T, dir string, earlier Files) Files {
	t.Helper()
	f, err := Look(dir, earlier)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// Everything that a person or an editor does to a project's files is seen, and what
// does not count is not.
func TestLook(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "tidemill.yaml", "project: p\n")
	write(t, dir, "tables/a.yaml", "table: a\n")
	have := look(t, dir, Files{})
	for _, c := range []struct {
		name string
		do   func()
		seen bool
	}{
		{"nothing", func() {}, false},
		{"written again as it was", func() { write(t, dir, "tables/a.yaml", "table: a\n") }, false},
		{"of the same size", func() { write(t, dir, "tables/a.yaml", "table: b\n") }, true},
		{"added", func() { write(t, dir, "connectors/c.yaml", "input: {}\n") }, true},
		{"renamed over", func() {
			write(t, dir, "connectors/.c.yaml.swp", "input: {stdin: {}}\n")
			if err := os.Rename(filepath.Join(dir, "connectors/.c.yaml.swp"), filepath.Join(dir, "connectors/c.yaml")); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"a backup file", func() { write(t, dir, "connectors/c.yaml~", "x") }, false},
		{"a hidden file", func() { write(t, dir, "connectors/.c.yaml", "x") }, false},
		{"a wrong ending", func() { write(t, dir, "connectors/d.yml", "x") }, true},
		{"tidemill.yaml", func() { write(t, dir, "tidemill.yaml", "project: q\n") }, true},
		{"removed", func() { _ = os.Remove(filepath.Join(dir, "tables/a.yaml")) }, true},
		{"the directory removed", func() { _ = os.RemoveAll(filepath.Join(dir, "connectors")) }, true},
		{"a link to another file", func() {
			write(t, dir, "elsewhere.yaml", "table: z\n")
			if err := os.Symlink(filepath.Join(dir, "elsewhere.yaml"), filepath.Join(dir, "tables/z.yaml")); err != nil {
				t.Fatal(err)
			}
		}, true},
		{"what a link leads to", func() { write(t, dir, "elsewhere.yaml", "table: y\n") }, true},
	} {
		c.do()
		now := look(t, dir, have)
		if now.Equal(have) == c.seen {
			t.Errorf("%s: seen %v, want %v", c.name, !c.seen, c.seen)
		}
		have = now
	}
}

// An edit is acted upon once two looks agree, and one that is dealt with not again until the
// files change; a signal forces another try.
func TestFollow(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "tidemill.yaml", "1")
	seen := look(t, dir, Files{})
	tick, force := make(chan time.Time), make(chan os.Signal)
	calls := make(chan Cause)
	answer, looked := make(chan bool), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		look := func(last Files) (Files, error) {
			f, err := Look(dir, last)
			looked <- struct{}{}
			return f, err
		}
		follow(ctx, look, seen, tick, force, func(_ context.Context, why Cause) bool {
			calls <- why
			return <-answer
		})
	}()
	quiet := func() {
		t.Helper()
		select {
		case tick <- time.Time{}:
			<-looked
		case <-calls:
			t.Fatal("acted")
		}
	}
	acts := func(why Cause, done bool) {
		t.Helper()
		<-looked
		if c := <-calls; c != why {
			t.Fatalf("cause %v, want %v", c, why)
		}
		answer <- done
	}
	quiet()
	quiet()
	write(t, dir, "tidemill.yaml", "2")
	quiet() // the first look that sees it
	write(t, dir, "tidemill.yaml", "22")
	quiet() // still being written
	tick <- time.Time{}
	acts(Edited, false) // not dealt with
	tick <- time.Time{}
	acts(Again, false)
	write(t, dir, "tidemill.yaml", "333")
	quiet()
	tick <- time.Time{}
	acts(Edited, false)
	tick <- time.Time{}
	acts(Again, false)
	write(t, dir, "tidemill.yaml", "1") // taken back
	quiet()
	tick <- time.Time{}
	acts(Edited, true)
	quiet()
	quiet()
	force <- os.Interrupt
	acts(Forced, true)
	quiet()
	cancel()
	<-ended
}
