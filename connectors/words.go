package connectors

import (
	"context"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"sync"

	"go.yaml.in/yaml/v3"
)

// words is a log handler that keeps the last warning or error, to be shown when an
// input gives nothing. Nothing of it holds a secret of the connector.
type words struct {
	hide []string

	mu   sync.Mutex
	text string
}

// Enabled implements slog.Handler.
func (w *words) Enabled(_ context.Context, l slog.Level) bool { return l >= slog.LevelWarn }

// Handle implements slog.Handler.
func (w *words) Handle(_ context.Context, r slog.Record) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	text := r.Message
	r.Attrs(func(a slog.Attr) bool {
		if a.Key == "error" {
			text += ": " + a.Value.String()
		}
		return true
	})
	w.text = w.clean(text)
	return nil
}

// WithAttrs implements slog.Handler.
func (w *words) WithAttrs([]slog.Attr) slog.Handler { return w }

// WithGroup implements slog.Handler.
func (w *words) WithGroup(string) slog.Handler { return w }

// begin forgets what was said before, and hides other secrets.
func (w *words) begin(hide []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.hide, w.text = hide, ""
}

func (w *words) last() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.text
}

var (
	userInfo   = regexp.MustCompile(`://[^/@\s"']+@`)
	envRef     = regexp.MustCompile(`\$\{([A-Za-z_][A-Za-z0-9_]*)(?::([^}]*))?\}`)
	secretName = regexp.MustCompile(`(?i)(pass|secret|token|api_?key|access_key|credential|private|sasl|signature|connection_string|authorization)`)
)

// clean takes secrets out of a text.
func (w *words) clean(text string) string {
	for _, s := range w.hide {
		text = strings.ReplaceAll(text, s, "***")
	}
	return userInfo.ReplaceAllString(text, "://***@")
}

// secretsOf lists the values of a connector that no text may hold: those of fields
// whose names say so, and the user's part of URLs.
func secretsOf(c *Config) (out []string) {
	add := func(n *yaml.Node) {
		text := envRef.ReplaceAllStringFunc(n.Value, func(m string) string {
			part := envRef.FindStringSubmatch(m)
			if v, ok := os.LookupEnv(part[1]); ok {
				return v
			}
			return part[2]
		})
		if len(text) >= 4 {
			out = append(out, text)
		}
	}
	walk(c.root, func(key, value *yaml.Node) {
		if !secretName.MatchString(key.Value) {
			return
		}
		if value.Kind == yaml.ScalarNode && value.Tag != "!!bool" {
			add(value)
		}
		walk(value, func(_, inner *yaml.Node) {
			if inner.Kind == yaml.ScalarNode && inner.Tag != "!!bool" {
				add(inner)
			}
		})
	})
	return out
}
