package models

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// AliasEntry is one move of an alias.
type AliasEntry struct {
	N        int       `json:"n"` // its place in the alias's log, from 1
	Version  int       `json:"version"`
	Previous int       `json:"previous"` // 0: the alias was new
	At       time.Time `json:"at"`
}

// AliasMovedError: the alias does not name the version that the caller expected.
type AliasMovedError struct {
	Name, Alias  string
	Expect, Have int // 0: not set
}

func (e *AliasMovedError) Error() string {
	return fmt.Sprintf("alias %s@%s names version %d, not %d: somebody moved it; look again and decide anew", e.Name, e.Alias, e.Have, e.Expect)
}

// SetAlias moves an alias to a version, if it names version expect now (0: it
// is not set yet). Of any number of concurrent calls that expect the same, one
// moves it and the others get an [AliasMovedError]. An alias that names the
// version already is left as it is, so the call may be repeated.
func (r *Registry) SetAlias(ctx context.Context, name, alias string, version, expect int) error {
	if err := checkName("alias", alias); err != nil {
		return err
	}
	if _, err := r.Resolve(ctx, Ref{Name: name, Version: version}.String()); err != nil {
		return fmt.Errorf("set alias %s: %w", alias, err)
	}
	for {
		head, err := r.alias(ctx, name, alias)
		if err != nil {
			return fmt.Errorf("set alias %s@%s: %w", name, alias, err)
		}
		if head.Version == version {
			return nil
		}
		if head.Version != expect {
			return &AliasMovedError{Name: name, Alias: alias, Expect: expect, Have: head.Version}
		}
		entry := AliasEntry{N: head.N + 1, Version: version, Previous: head.Version, At: r.now().UTC()}
		data, err := json.MarshalIndent(entry, "", " ")
		if err != nil {
			return fmt.Errorf("set alias %s@%s: %w", name, alias, err)
		}
		// Won or lost, the log says on the next round what the alias names now.
		if _, err := r.put(ctx, r.key(name, "aliases", alias, number(entry.N)), data); err != nil {
			return fmt.Errorf("set alias %s@%s: %w", name, alias, err)
		}
	}
}

// AliasLog is an alias's history, oldest first; empty if it was never set.
func (r *Registry) AliasLog(ctx context.Context, name, alias string) ([]AliasEntry, error) {
	var out []AliasEntry
	for key, err := range r.store.Keys(ctx, r.key(name, "aliases", alias)+"/", "") {
		if err != nil {
			return nil, fmt.Errorf("alias %s@%s: %w", name, alias, err)
		}
		entry, err := r.readAlias(ctx, key)
		if err != nil {
			return nil, fmt.Errorf("alias %s@%s: %w", name, alias, err)
		}
		out = append(out, entry)
	}
	return out, nil
}

// alias is the head of an alias's log, zero if it has none. One listing, which
// begins where the last one ended.
func (r *Registry) alias(ctx context.Context, name, alias string) (AliasEntry, error) {
	cacheKey := name + "@" + alias
	r.mu.Lock()
	head := r.aliases[cacheKey]
	r.mu.Unlock()
	prefix := r.key(name, "aliases", alias) + "/"
	startAfter := ""
	if head.N > 0 {
		startAfter = prefix + number(head.N)
	}
	last := ""
	for key, err := range r.store.Keys(ctx, prefix, startAfter) {
		if err != nil {
			return AliasEntry{}, err
		}
		last = key
	}
	if last == "" {
		return head, nil
	}
	head, err := r.readAlias(ctx, last)
	if err != nil {
		return AliasEntry{}, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if head.N > r.aliases[cacheKey].N {
		r.aliases[cacheKey] = head
	}
	return head, nil
}

func (r *Registry) readAlias(ctx context.Context, key string) (AliasEntry, error) {
	n, err := parseNumber(key)
	if err != nil {
		return AliasEntry{}, err
	}
	data, err := r.store.Get(ctx, key)
	if err != nil {
		return AliasEntry{}, err
	}
	var entry AliasEntry
	if err := json.Unmarshal(data, &entry); err != nil {
		return AliasEntry{}, fmt.Errorf("read %s: %w", key, err)
	}
	if entry.N != n || entry.Version < 1 {
		return AliasEntry{}, fmt.Errorf("read %s: not what the registry writes; it has been changed by hand", key)
	}
	return entry, nil
}
