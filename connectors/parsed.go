package connectors

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/internal/secret"
)

// parsed reads fields of a config and collects what is wrong with them.
type parsed struct {
	conf *service.ParsedConfig
	errs []error
}

func (p *parsed) bad(field, format string, args ...any) {
	p.errs = append(p.errs, fmt.Errorf("%s: %s", field, fmt.Sprintf(format, args...)))
}

func (p *parsed) err() error { return errors.Join(p.errs...) }

func field[T any](p *parsed, get func(...string) (T, error), path []string) T {
	v, err := get(path...)
	if err != nil {
		p.errs = append(p.errs, fmt.Errorf("%s: %w", strings.Join(path, "."), err))
	}
	return v
}

func (p *parsed) str(path ...string) string       { return field(p, p.conf.FieldString, path) }
func (p *parsed) strings(path ...string) []string { return field(p, p.conf.FieldStringList, path) }
func (p *parsed) int(path ...string) int          { return field(p, p.conf.FieldInt, path) }
func (p *parsed) bool(path ...string) bool        { return field(p, p.conf.FieldBool, path) }
func (p *parsed) duration(path ...string) time.Duration {
	return field(p, p.conf.FieldDuration, path)
}

func (p *parsed) secrets(path ...string) (out []secret.String) {
	for _, s := range p.strings(path...) {
		out = append(out, secret.New(s))
	}
	return out
}

// limit returns how a rate limit resource is asked; nil without one.
func (p *parsed) limit(res *service.Resources) func(context.Context) (time.Duration, error) {
	name := p.str("rate_limit")
	if name == "" {
		return nil
	}
	if !res.HasRateLimit(name) {
		p.bad("rate_limit", "there is no rate limit resource %q; add it under rate_limit_resources, or correct the name", name)
	}
	return func(ctx context.Context) (wait time.Duration, err error) {
		if aerr := res.AccessRateLimit(ctx, name, func(l service.RateLimit) { wait, err = l.Access(ctx) }); aerr != nil {
			return 0, aerr
		}
		return wait, err
	}
}
