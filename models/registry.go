package models

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Version is one registered model. It never changes.
type Version struct {
	Name         string       `json:"name"`
	Version      int          `json:"version"`
	SHA256       string       `json:"sha256"` // of the bytes, hex
	Size         int64        `json:"size"`   // bytes
	Source       string       `json:"source,omitempty"`
	RegisteredAt time.Time    `json:"registered_at"`
	Producer     string       `json:"producer,omitempty"`
	Signature    Signature    `json:"signature"`
	Checks       []GateResult `json:"checks,omitempty"` // what it passed
}

// Ref names the version by number.
func (v Version) Ref() Ref { return Ref{Name: v.Name, Version: v.Version} }

// Candidate is a model to register.
type Candidate struct {
	Name   string
	Data   []byte
	Source string // where it came from, for people: a path, a URL, a training run
}

// RegistryOptions may be left zero.
type RegistryOptions struct {
	Now func() time.Time // time.Now
}

// Registry keeps model versions and aliases in a store. It is safe for
// concurrent use, and so are any number of registries on one store.
type Registry struct {
	store  Store
	prefix string
	now    func() time.Time
	sleep  func(context.Context, time.Duration) error

	mu       sync.Mutex
	versions map[string][]Version // by name, dense from 1; what is known is final
	aliases  map[string]AliasEntry
}

// NewRegistry makes a registry of the models under prefix, such as "models".
func NewRegistry(store Store, prefix string, o RegistryOptions) *Registry {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Registry{store: store, prefix: prefix, now: o.Now, sleep: sleep,
		versions: map[string][]Version{}, aliases: map[string]AliasEntry{}}
}

// NotFoundError: the registry has no such model, version or alias. It is fs.ErrNotExist.
type NotFoundError struct {
	Ref  Ref
	Have string // what there is instead, for people
}

func (e *NotFoundError) Error() string {
	how := "register it with `tidemill model register`, or the workflow RegisterModel"
	if e.Ref.Alias != "" {
		how = "register a model under this alias with `tidemill model register`, or the workflow RegisterModel"
	}
	return fmt.Sprintf("model %s is not registered (%s); %s", e.Ref, e.Have, how)
}

// Is makes it fs.ErrNotExist.
func (e *NotFoundError) Is(target error) bool { return target == fs.ErrNotExist }

func (r *Registry) key(elem ...string) string {
	return path.Join(append([]string{r.prefix}, elem...)...)
}

func number(n int) string { return fmt.Sprintf("%020d.json", n) }

func blobKey(sum string) string { return sum + ".onnx" }

// Register stores a model as the next version of its name. checks are what the
// gate found; one that failed refuses it with a [GateError]. Bytes that the
// name has already give the version that they have, however many register them
// at once.
func (r *Registry) Register(ctx context.Context, c Candidate, checks []GateResult) (Version, error) {
	if err := checkName("model name", c.Name); err != nil {
		return Version{}, err
	}
	if err := Failed(checks); err != nil {
		return Version{}, fmt.Errorf("register %s: %w", c.Name, err)
	}
	graph, err := Inspect(c.Data)
	if err != nil {
		return Version{}, fmt.Errorf("register %s: %w", c.Name, err)
	}
	hash := sha256.Sum256(c.Data)
	sum := hex.EncodeToString(hash[:])
	blob := r.key(c.Name, "blobs", blobKey(sum))
	for stored := false; ; {
		have, err := r.load(ctx, c.Name)
		if err != nil {
			return Version{}, fmt.Errorf("register %s: %w", c.Name, err)
		}
		if i := slices.IndexFunc(have, func(v Version) bool { return v.SHA256 == sum }); i >= 0 {
			return have[i], nil
		}
		if !stored {
			if stored, err = r.put(ctx, blob, c.Data); err != nil {
				return Version{}, fmt.Errorf("register %s: %w", c.Name, err)
			} else if !stored {
				return Version{}, fmt.Errorf("register %s: %s does not hold what its name says; remove it", c.Name, blob)
			}
		}
		v := Version{Name: c.Name, Version: len(have) + 1, SHA256: sum, Size: int64(len(c.Data)), Source: c.Source,
			RegisteredAt: r.now().UTC(), Producer: graph.Producer, Signature: graph.Signature, Checks: checks}
		data, err := json.MarshalIndent(v, "", " ")
		if err != nil {
			return Version{}, fmt.Errorf("register %s: %w", c.Name, err)
		}
		// Losing means that somebody else has this number: look at what it is and go on.
		if _, err := r.put(ctx, r.key(c.Name, "versions", number(v.Version)), data); err != nil {
			return Version{}, fmt.Errorf("register %s: %w", c.Name, err)
		}
	}
}

// load brings the known versions of a name up to date.
func (r *Registry) load(ctx context.Context, name string) ([]Version, error) {
	r.mu.Lock()
	have := r.versions[name]
	r.mu.Unlock()
	prefix := r.key(name, "versions") + "/"
	startAfter := ""
	if len(have) > 0 {
		startAfter = prefix + number(len(have))
	}
	have = slices.Clip(have)
	for key, err := range r.store.Keys(ctx, prefix, startAfter) {
		if err != nil {
			return nil, err
		}
		data, err := r.store.Get(ctx, key)
		if err != nil {
			return nil, err
		}
		var v Version
		if err := json.Unmarshal(data, &v); err != nil {
			return nil, fmt.Errorf("read %s: %w", key, err)
		}
		if want := len(have) + 1; v.Version != want || path.Base(key) != number(want) {
			return nil, fmt.Errorf("read %s: want version %d of %s there; the registry has been changed by hand", key, want, name)
		}
		have = append(have, v)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(have) > len(r.versions[name]) {
		r.versions[name] = have
	}
	return have, nil
}

// Resolve finds the version that "fraud@champion" or "fraud@3" names now; a
// [NotFoundError] if there is none.
func (r *Registry) Resolve(ctx context.Context, ref string) (Version, error) {
	parsed, err := ParseRef(ref)
	if err != nil {
		return Version{}, err
	}
	number := parsed.Version
	if parsed.Alias != "" {
		entry, err := r.alias(ctx, parsed.Name, parsed.Alias)
		if err != nil {
			return Version{}, fmt.Errorf("resolve %s: %w", ref, err)
		}
		number = entry.Version
	}
	r.mu.Lock()
	have := r.versions[parsed.Name]
	r.mu.Unlock()
	if number == 0 || number > len(have) {
		if have, err = r.load(ctx, parsed.Name); err != nil {
			return Version{}, fmt.Errorf("resolve %s: %w", ref, err)
		}
	}
	if number == 0 || number > len(have) {
		return Version{}, &NotFoundError{Ref: parsed, Have: describe(parsed, len(have))}
	}
	return have[number-1], nil
}

func describe(ref Ref, versions int) string {
	switch {
	case versions == 0:
		return fmt.Sprintf("there is no model %s", ref.Name)
	case ref.Alias != "":
		return fmt.Sprintf("%s has %d versions and no alias %s", ref.Name, versions, ref.Alias)
	default:
		return fmt.Sprintf("the latest version of %s is %d", ref.Name, versions)
	}
}

// Load reads a version's bytes and checks them against its SHA-256.
func (r *Registry) Load(ctx context.Context, v Version) ([]byte, error) {
	key := r.key(v.Name, "blobs", blobKey(v.SHA256))
	data, err := r.store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("load model %s: %w", v.Ref(), err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != v.SHA256 {
		return nil, fmt.Errorf("load model %s: %s does not hold what its name says; it was damaged or changed: register the model again from its file", v.Ref(), key)
	}
	return data, nil
}

// Model is one name in the registry.
type Model struct {
	Name     string
	Versions []Version      // ascending
	Aliases  map[string]int // alias to version
}

// List reads the whole registry, by name.
func (r *Registry) List(ctx context.Context) ([]Model, error) {
	found := map[string]*Model{}
	prefix := r.key() + "/"
	for key, err := range r.store.Keys(ctx, prefix, "") {
		if err != nil {
			return nil, fmt.Errorf("list models: %w", err)
		}
		part := strings.Split(strings.TrimPrefix(key, prefix), "/")
		m := found[part[0]]
		switch {
		case len(part) == 3 && part[1] == "versions":
			if m == nil {
				found[part[0]] = &Model{Name: part[0], Aliases: map[string]int{}}
			}
		case len(part) == 4 && part[1] == "aliases" && m == nil:
			// "aliases" sorts before "versions"; an alias has a version to stand on.
			found[part[0]] = &Model{Name: part[0], Aliases: map[string]int{part[2]: 0}}
		case len(part) == 4 && part[1] == "aliases":
			m.Aliases[part[2]] = 0
		}
	}
	out := make([]Model, 0, len(found))
	for _, m := range found {
		var err error
		if m.Versions, err = r.load(ctx, m.Name); err != nil {
			return nil, fmt.Errorf("list models: %w", err)
		}
		for alias := range m.Aliases {
			entry, err := r.alias(ctx, m.Name, alias)
			if err != nil {
				return nil, fmt.Errorf("list models: %w", err)
			}
			m.Aliases[alias] = entry.Version
		}
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b Model) int { return strings.Compare(a.Name, b.Name) })
	return out, nil
}

func parseNumber(key string) (int, error) {
	n, err := strconv.Atoi(strings.TrimSuffix(path.Base(key), ".json"))
	if err != nil || path.Base(key) != number(n) {
		return 0, fmt.Errorf("read %s: not a key of the registry", key)
	}
	return n, nil
}
