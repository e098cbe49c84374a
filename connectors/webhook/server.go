package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"github.com/tidemill/tidemill/connectors/csvjson"
)

// Defaults of [Config].
const (
	DefaultMaxBody    = 64 << 20
	DefaultMaxPending = 128 << 20
	DefaultTimeout    = 5 * time.Second
	DefaultSkew       = 5 * time.Minute
)

// KeyHeader is the header that makes a request safe to repeat.
const KeyHeader = "Idempotency-Key"

// overhead is what a waiting request is counted as beside its body: the
// goroutine, the connection's buffers, the headers.
const overhead = 16 << 10

// blockBytes is about how long a block of a long request is.
const blockBytes = 4 << 20

// Config of a [Server].
type Config struct {
	Verbs      []string // that are taken; none: POST
	Timeout    time.Duration
	MaxBody    int64 // of a request or a WebSocket message, as sent and unpacked
	MaxPending int64 // that all requests hold together
	Format     string
	Delimiter  rune
	Auth       Auth
	CORS       CORS
	Welcome    string // sent to every new WebSocket

	// Single makes each line of NDJSON and CSV a message of its own, for processors that
	// take one row at a time. Otherwise a message is a block of lines.
	Single bool
	// Kinds returns how the columns of CSV are written; nil: they are guessed.
	Kinds func(context.Context) func(name string) csvjson.Kind
	// Limit returns how long a request has to wait; nil: there is no limit.
	Limit func(context.Context) (time.Duration, error)
	Now   func() time.Time // nil: time.Now
}

// CORS is which web pages may send.
type CORS struct {
	Enabled bool
	Origins []string // "*": all
}

func (c CORS) allows(origin string) bool {
	return c.Enabled && (slices.Contains(c.Origins, "*") || slices.Contains(c.Origins, origin))
}

// Server takes requests. Its methods are safe for concurrent use.
type Server struct {
	c      Config
	memory *semaphore.Weighted
	queue  chan *Message

	mu       sync.Mutex
	draining bool           // guarded by mu
	handlers sync.WaitGroup // Add is guarded by mu, and not done while draining

	drain  chan struct{} // closed by Drain
	closed chan struct{} // closed by Close
	once   sync.Once
}

// New returns a server, or every [FieldError] of its configuration, joined.
func New(c Config) (*Server, error) {
	if len(c.Verbs) == 0 {
		c.Verbs = []string{http.MethodPost}
	}
	if c.Now == nil {
		c.Now = time.Now
	}
	errs := []error{c.Auth.check()}
	if c.Timeout <= 0 {
		errs = append(errs, FieldError{"timeout", "must be more than 0"})
	}
	if c.MaxBody <= 0 {
		errs = append(errs, FieldError{"max_body_bytes", "must be more than 0"})
	}
	if c.MaxPending < c.MaxBody+overhead {
		errs = append(errs, FieldError{"max_pending_bytes", "must be more than max_body_bytes and 16384, or the largest request allowed could never be taken"})
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return &Server{
		c: c, memory: semaphore.NewWeighted(c.MaxPending), queue: make(chan *Message),
		drain: make(chan struct{}), closed: make(chan struct{}),
	}, nil
}

// Message is one row, or a block of whole lines, of a request.
type Message struct {
	Data  []byte
	Key   string // of the request; "": it has none
	First int64  // line of the request that the message begins with, from 0
	Lines int64  // that it has; 0: it is not known to be a row a line
	// PerRow says that rows count on from First; otherwise all of the message stand at First.
	PerRow bool
	From   *Origin

	req *request
}

// Origin is what a request says of itself, beside its rows.
type Origin struct {
	Verb, Path, RemoteAddr, UserAgent string
	Header                            http.Header // without those that carry secrets
	Query                             url.Values
}

// Done says what became of the message: nil when its rows are durable. It must
// be called once.
func (m *Message) Done(err error) { m.req.finish(err) }

// Count adds to the rows that the answer tells of.
func (m *Message) Count(rows, quarantined int64) {
	m.req.rows.Add(rows)
	m.req.quarantined.Add(quarantined)
}

// request waits for its messages.
type request struct {
	done              chan struct{}
	release           func()
	rows, quarantined atomic.Int64

	mu      sync.Mutex
	pending int   // guarded by mu
	err     error // guarded by mu: the first one
}

func newRequest(messages int, release func()) *request {
	return &request{done: make(chan struct{}), release: release, pending: messages}
}

func (r *request) finish(err error) { r.finishN(1, err) }

func (r *request) finishN(n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil && r.err == nil {
		r.err = err
	}
	if r.pending -= n; r.pending == 0 {
		r.release()
		close(r.done)
	}
}

// Next returns the next message. It waits for one, and ends with the context's error.
func (s *Server) Next(ctx context.Context) (*Message, error) {
	select {
	case m := <-s.queue:
		return m, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// Drain refuses what comes from now on and what nobody has taken yet. Requests
// whose rows are on their way go on waiting for them.
func (s *Server) Drain() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.draining {
		s.draining = true
		close(s.drain)
	}
}

// Close drains, answers what still waits, and returns when the last answer is written
// or ctx ends.
func (s *Server) Close(ctx context.Context) error {
	s.Drain()
	s.once.Do(func() { close(s.closed) })
	written := make(chan struct{})
	go func() {
		s.handlers.Wait()
		close(written)
	}()
	select {
	case <-written:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// enter counts a handler that Close waits for.
func (s *Server) enter() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.draining {
		return false
	}
	s.handlers.Add(1)
	return true
}

const stopping = "this server is stopping"

// ServeHTTP takes the rows of one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !s.enter() {
		w.Header().Set("Connection", "close")
		busy(stopping).write(w)
		return
	}
	defer s.handlers.Done()
	if s.c.CORS.answer(w, r, s.c.Verbs) {
		return
	}
	if no := s.admit(w, r); no != nil {
		no.write(w)
		return
	}
	if !s.memory.TryAcquire(overhead) {
		busy("too much is on its way to the table already").write(w)
		return
	}
	b, no := s.readBody(w, r)
	held := b.held + overhead
	if no != nil {
		s.memory.Release(held)
		no.write(w)
		return
	}
	if len(bytes.TrimSpace(b.data)) == 0 {
		s.memory.Release(held)
		landed{}.write(w)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), s.c.Timeout)
	defer cancel()
	req, no := s.handOver(ctx, s.messages(b, s.origin(r), r.Header.Get(KeyHeader)), held)
	if no == nil {
		no = s.wait(ctx, req)
	}
	if no != nil {
		no.write(w)
		return
	}
	landed{req.rows.Load(), req.quarantined.Load()}.write(w)
}

func (s *Server) admit(w http.ResponseWriter, r *http.Request) *refusal {
	if !slices.Contains(s.c.Verbs, r.Method) {
		w.Header().Set("Allow", strings.Join(s.c.Verbs, ", "))
		return refuse(http.StatusMethodNotAllowed, "%s is not taken here; use %s", r.Method, strings.Join(s.c.Verbs, " or "))
	}
	if no := s.c.Auth.admit(r); no != nil {
		return no
	}
	if s.c.Limit == nil {
		return nil
	}
	wait, err := s.c.Limit(r.Context())
	if err != nil {
		return busy("the rate limit cannot be asked")
	}
	if wait > 0 {
		return &refusal{status: http.StatusTooManyRequests, retry: wait, text: "too many requests; send it again after the time in Retry-After"}
	}
	return nil
}

// handOver puts a request's messages where Next finds them. With a refusal, no
// row of it was taken, or what was is not known.
func (s *Server) handOver(ctx context.Context, msgs []*Message, held int64) (*request, *refusal) {
	req := newRequest(len(msgs), func() { s.memory.Release(held) })
	for i, m := range msgs {
		m.req = req
		var why string
		select {
		case s.queue <- m:
			continue
		case <-ctx.Done():
			why = "rows are landing more slowly than they come"
		case <-s.drain:
			why = stopping
		}
		req.finishN(len(msgs)-i, errNotTaken)
		if i == 0 {
			return req, busy(why)
		}
		return req, unsure(why + ", and the request was taken in only in part")
	}
	return req, nil
}

var errNotTaken = errors.New("not taken")

// wait returns when the request's rows are durable.
func (s *Server) wait(ctx context.Context, req *request) *refusal {
	select {
	case <-req.done:
	case <-ctx.Done():
		return unsure("the rows were not committed within " + s.c.Timeout.String())
	case <-s.closed:
		select {
		case <-req.done: // both: the rows decide
		default:
			return unsure(stopping + ", and the rows are not known to be committed")
		}
	}
	if req.err != nil {
		return unsure("the rows could not be committed; the server's log says why")
	}
	return nil
}

// messages cuts a body where that is possible and of use.
func (s *Server) messages(b body, from *Origin, key string) []*Message {
	m := Message{Key: key, From: from, PerRow: !b.lines || !s.c.Single}
	if !b.lines && (s.c.Single || len(b.data) <= blockBytes || !ndjson(b.data)) {
		m.Data = b.data
		return []*Message{&m}
	}
	size := blockBytes
	if s.c.Single {
		size = 1
	}
	var out []*Message
	for rest := b.data; len(rest) > 0; {
		end := len(rest)
		if size < end {
			if nl := bytes.IndexByte(rest[size-1:], '\n'); nl >= 0 {
				end = size + nl
			}
		}
		m.Data, rest = rest[:end:end], rest[end:]
		m.Lines = lines(m.Data)
		if !s.c.Single || len(bytes.TrimSpace(m.Data)) > 0 {
			if s.c.Single {
				m.Data = bytes.TrimRight(m.Data, "\r\n")
			}
			block := m
			out = append(out, &block)
		}
		m.First += m.Lines
	}
	return out
}

// ndjson reports whether a body is an object a line, which its first line tells:
// of an array, or of an object on several lines, it is no whole object.
func ndjson(data []byte) bool {
	line, _, more := bytes.Cut(bytes.TrimLeft(data, "\xef\xbb\xbf \r\n\t"), []byte{'\n'})
	return more && len(line) > 0 && line[0] == '{' && json.Valid(line)
}

// lines counts the lines of a block, the last one with or without its end.
func lines(data []byte) int64 {
	n := int64(bytes.Count(data, []byte{'\n'}))
	if len(data) > 0 && data[len(data)-1] != '\n' {
		n++
	}
	return n
}

func (s *Server) origin(r *http.Request) *Origin {
	o := &Origin{Verb: r.Method, Path: r.URL.Path, RemoteAddr: r.RemoteAddr, UserAgent: r.UserAgent(), Query: r.URL.Query()}
	o.Header = make(http.Header, len(r.Header))
	for k, v := range r.Header {
		if !s.c.Auth.carriesSecret(k) {
			o.Header[k] = v
		}
	}
	return o
}

// answer sets the headers of CORS and reports whether the request was only about them.
func (c CORS) answer(w http.ResponseWriter, r *http.Request, verbs []string) bool {
	origin := r.Header.Get("Origin")
	if !c.Enabled || origin == "" {
		return false
	}
	w.Header().Add("Vary", "Origin")
	if c.allows(origin) {
		w.Header().Set("Access-Control-Allow-Origin", origin)
	}
	if r.Method != http.MethodOptions || r.Header.Get("Access-Control-Request-Method") == "" {
		return false
	}
	w.Header().Set("Access-Control-Allow-Methods", strings.Join(verbs, ", "))
	w.Header().Set("Access-Control-Allow-Headers", "Authorization, Content-Encoding, Content-Type, "+KeyHeader)
	w.WriteHeader(http.StatusNoContent)
	return true
}
