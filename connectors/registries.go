package connectors

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/redpanda-data/benthos/v4/public/service"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/strictyaml"
)

// registryUsers are the components that ask a schema registry. They name it with the same
// fields.
var registryUsers = []string{"schema_registry", "schema_registry_decode", "schema_registry_encode"}

// registryPatience bounds a request to a registry.
const registryPatience = 5 * time.Second

// CheckRegistries asks the schema registries that a connector names whether they have the
// subjects that it names. What could not be asked is in unchecked. The config was linted.
func (e *Engine) CheckRegistries(ctx context.Context, c *Config) (ps, unchecked problem.List) {
	if len(c.Resolve()) > 0 { // lint has said so
		return nil, nil
	}
	return checkRegistries(ctx, c.File, c.resolved.root, "")
}

// CheckSinkRegistries is CheckRegistries for a contract's sinks.
func (e *Engine) CheckSinkRegistries(ctx context.Context, t *contract.Table) (ps, unchecked problem.List) {
	for _, s := range t.Sinks() {
		for _, part := range []*strictyaml.Node{s.Output, s.Processors} {
			if part == nil {
				continue
			}
			c := &Config{File: part.File, root: benthosNode(part)}
			c.noteSecrets()
			if c.fill(c.root, io.Discard) != nil {
				continue
			}
			bad, not := checkRegistries(ctx, c.File, c.root, part.Path)
			ps.Add(bad...)
			unchecked.Add(not...)
		}
	}
	return ps, unchecked
}

func checkRegistries(ctx context.Context, file string, root *yaml.Node, path string) (ps, unchecked problem.List) {
	eachField(root, path, func(path string, key, value *yaml.Node) {
		if !slices.Contains(registryUsers, key.Value) || child(value, "url") == nil {
			return
		}
		at := child(value, "url")
		p := problem.Problem{File: file, Line: at.Line, Column: at.Column, Field: path + ".url"}
		r, err := newRegistryClient(value)
		if err != nil {
			p.Message = err.Error()
			ps.Add(p)
			return
		}
		if n := child(value, "subject"); n != nil && !strings.Contains(n.Value, "${!") { // else each message names its own
			r.subject = expand(n.Value)
			p.Line, p.Column, p.Field = n.Line, n.Column, path+".subject"
		}
		message, known := r.check(ctx)
		switch p.Message = message; {
		case message == "":
		case known:
			ps.Add(p)
		default:
			unchecked.Add(p)
		}
	})
	return ps, unchecked
}

// eachField calls fn for each entry of each mapping in a tree, with its path.
func eachField(n *yaml.Node, path string, fn func(path string, key, value *yaml.Node)) {
	switch n.Kind {
	case yaml.MappingNode:
		for i := 0; i+1 < len(n.Content); i += 2 {
			at := strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			fn(at, n.Content[i], n.Content[i+1])
			eachField(n.Content[i+1], at, fn)
		}
	case yaml.SequenceNode:
		for i, c := range n.Content {
			eachField(c, fmt.Sprintf("%s[%d]", path, i), fn)
		}
	}
}

// registryClient asks one registry, with the credentials that a component is given.
type registryClient struct {
	url     string
	subject string // "": whether it answers
	http    *http.Client
	sign    func(*http.Request) error
}

// registrySpec are the fields that say how a registry is reached.
func registrySpec() *service.ConfigSpec {
	return service.NewConfigSpec().Fields(service.NewHTTPRequestAuthSignerFields()...).Field(service.NewTLSField("tls"))
}

func newRegistryClient(conf *yaml.Node) (*registryClient, error) {
	own := mapping()
	for _, name := range []string{"oauth", "basic_auth", "jwt", "tls"} {
		if n := child(conf, name); n != nil {
			n = deepCopy(n)
			eachScalar(n, "", func(_ string, n *yaml.Node) { n.Value = expand(n.Value) })
			own.Content = append(own.Content, scalar(name, "!!str"), n)
		}
	}
	text, err := yaml.Marshal(own)
	if err != nil {
		return nil, fmt.Errorf("encode: %w", err)
	}
	parsed, err := registrySpec().ParseYAML(string(text), nil)
	if err != nil {
		return nil, err
	}
	tls, err := parsed.FieldTLS("tls")
	if err != nil {
		return nil, err
	}
	sign, err := parsed.HTTPRequestAuthSignerFromParsed()
	if err != nil {
		return nil, err
	}
	var process *service.Resources // whose files are the system's
	fs := process.FS()
	return &registryClient{
		url:  strings.TrimSuffix(expand(child(conf, "url").Value), "/"),
		http: &http.Client{Timeout: registryPatience, Transport: &http.Transport{TLSClientConfig: tls, Proxy: http.ProxyFromEnvironment, DisableKeepAlives: true}},
		sign: func(r *http.Request) error { return sign(fs, r) },
	}, nil
}

// check says what is wrong; "" is nothing. Not known: the registry could not be asked.
func (r *registryClient) check(ctx context.Context) (message string, known bool) {
	path := "/schemas/types"
	if r.subject != "" {
		path = "/subjects/" + url.PathEscape(r.subject) + "/versions/latest"
	}
	status, err := r.get(ctx, path, nil)
	switch {
	case err != nil:
		return fmt.Sprintf("is not checked: the schema registry does not answer: %v", err), false
	case status == http.StatusOK:
		return "", true
	case status == http.StatusUnauthorized || status == http.StatusForbidden:
		return fmt.Sprintf("the schema registry at %s refuses the credentials (%d %s); correct basic_auth, oauth, jwt or tls", r.url, status, http.StatusText(status)), true
	case status == http.StatusNotFound && r.subject != "":
		return fmt.Sprintf("the schema registry at %s has no subject %s; %s", r.url, r.subject, r.near(ctx)), true
	}
	return fmt.Sprintf("is not checked: the schema registry at %s answers %d %s", r.url, status, http.StatusText(status)), false
}

// near is what to do about a subject that is not there.
func (r *registryClient) near(ctx context.Context) string {
	var have []string
	if status, err := r.get(ctx, "/subjects", &have); err == nil && status == http.StatusOK {
		if s := strictyaml.Suggest(r.subject, have); s != "" {
			return "did you mean " + s + "?"
		}
	}
	return "register a schema for it, or correct the name"
}

func (r *registryClient) get(ctx context.Context, path string, into any) (status int, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, r.url+path, nil)
	if err != nil {
		return 0, err
	}
	if err := r.sign(req); err != nil {
		return 0, err
	}
	resp, err := r.http.Do(req)
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	if into == nil || resp.StatusCode != http.StatusOK {
		return resp.StatusCode, nil
	}
	if err := json.NewDecoder(io.LimitReader(resp.Body, 8<<20)).Decode(into); err != nil {
		return resp.StatusCode, fmt.Errorf("decode the answer: %w", err)
	}
	return resp.StatusCode, nil
}
