package objstore

import (
	"context"
	"iter"
	"strings"
)

// WithPrefix is the part of s below prefix, a path without leading or trailing slash
// (both are trimmed): key "k" there is "prefix/k" in s. An empty prefix gives s itself.
func WithPrefix(s Store, prefix string) Store {
	prefix = strings.Trim(prefix, "/")
	if prefix == "" {
		return s
	}
	return &prefixed{store: s, prefix: prefix + "/"}
}

type prefixed struct {
	store  Store
	prefix string // ends with a slash
}

// key leaves an empty key empty and a bad one bad, for the driver to refuse: prefix
// must not make "" or "/x" look acceptable.
func (p *prefixed) key(k string) (string, error) { return p.checked(k, CheckKey) }

func (p *prefixed) checked(k string, check func(string) error) (string, error) {
	if err := check(k); err != nil {
		return "", err
	}
	return p.prefix + k, nil
}

func (p *prefixed) Get(ctx context.Context, key string) ([]byte, error) {
	k, err := p.checked(key, CheckReadKey)
	if err != nil {
		return nil, err
	}
	return p.store.Get(ctx, k)
}

func (p *prefixed) Stat(ctx context.Context, key string) (Object, error) {
	k, err := p.checked(key, CheckReadKey)
	if err != nil {
		return Object{}, err
	}
	o, err := p.store.Stat(ctx, k)
	o.Key = strings.TrimPrefix(o.Key, p.prefix)
	return o, err
}

func (p *prefixed) Put(ctx context.Context, key string, data []byte) error {
	k, err := p.key(key)
	if err != nil {
		return err
	}
	return p.store.Put(ctx, k, data)
}

func (p *prefixed) PutIfAbsent(ctx context.Context, key string, data []byte) error {
	k, err := p.key(key)
	if err != nil {
		return err
	}
	return p.store.PutIfAbsent(ctx, k, data)
}

func (p *prefixed) Delete(ctx context.Context, key string) error {
	k, err := p.key(key)
	if err != nil {
		return err
	}
	return p.store.Delete(ctx, k)
}

func (p *prefixed) List(ctx context.Context, prefix, startAfter string) iter.Seq2[Object, error] {
	if startAfter != "" {
		startAfter = p.prefix + startAfter
	}
	return func(yield func(Object, error) bool) {
		for o, err := range p.store.List(ctx, p.prefix+prefix, startAfter) {
			o.Key = strings.TrimPrefix(o.Key, p.prefix)
			if !yield(o, err) {
				return
			}
		}
	}
}
