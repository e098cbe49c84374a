package webhook

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// socketPending is how many messages of one WebSocket may wait for their
// commit; then it is not read from.
const socketPending = 1000

// A peer that says nothing for socketSilent, pongs included, is gone.
const (
	socketPing   = 20 * time.Second
	socketSilent = 60 * time.Second
	socketWrite  = 10 * time.Second
)

// ack is the frame that answers a message.
type ack struct {
	N           int64  `json:"n"` // the message's number on its connection, from 1
	OK          bool   `json:"ok"`
	Rows        int64  `json:"rows"`
	Quarantined int64  `json:"quarantined"`
	Error       string `json:"error,omitempty"`
}

// Socket takes messages by WebSocket: each is one row or several, as a request's
// body is. Every message is answered by a frame, in their order, once its rows are
// durable.
type Socket struct{ s *Server }

// Socket returns the handler for WebSockets.
func (s *Server) Socket() *Socket { return &Socket{s} }

// ServeHTTP implements http.Handler.
func (k *Socket) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s := k.s
	if !s.enter() {
		busy(stopping).write(w)
		return
	}
	defer s.handlers.Done()
	if s.c.Auth.HMAC != nil {
		refuse(http.StatusForbidden, "messages of a WebSocket carry no signature, and this connector asks for one; send them by %s", strings.Join(s.c.Verbs, " or ")).write(w)
		return
	}
	if no := s.c.Auth.admit(r); no != nil {
		no.write(w)
		return
	}
	if !websocket.IsWebSocketUpgrade(r) {
		refuse(http.StatusUpgradeRequired, "this path is for WebSockets; send requests to the connector's path").write(w)
		return
	}
	up := websocket.Upgrader{CheckOrigin: s.mayConnect, Error: func(w http.ResponseWriter, _ *http.Request, status int, reason error) {
		refuse(status, "%v", reason).write(w)
	}}
	ws, err := up.Upgrade(w, r, nil)
	if err != nil {
		return // it has answered
	}
	c := &conn{s: s, ws: ws, from: s.origin(r), key: r.Header.Get(KeyHeader), acks: make(chan *request, socketPending)}
	// The request's own context ends with a read that is interrupted, answers do not.
	c.serve(context.WithoutCancel(r.Context()))
}

// mayConnect keeps web pages of other sites out, unless CORS lets them in.
func (s *Server) mayConnect(r *http.Request) bool {
	origin := r.Header.Get("Origin")
	if origin == "" || s.c.CORS.allows(origin) {
		return true
	}
	u, err := url.Parse(origin)
	return err == nil && strings.EqualFold(u.Host, r.Host)
}

// conn is one WebSocket.
type conn struct {
	s    *Server
	ws   *websocket.Conn
	from *Origin
	key  string
	line int64         // of the connection, which the next message begins with
	acks chan *request // in the order of the messages

	mu      sync.Mutex
	stopped bool // guarded by mu: nothing more is read
}

func (c *conn) serve(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer c.ws.Close()
	if c.s.c.Welcome != "" && c.write(websocket.TextMessage, []byte(c.s.c.Welcome)) != nil {
		return
	}
	var writer sync.WaitGroup
	writer.Go(func() {
		c.answer(ctx)
		cancel() // nobody reads answers any more: take in no more
		c.stop()
	})
	reason := c.read(ctx)
	close(c.acks)
	writer.Wait()
	_ = c.ws.WriteControl(websocket.CloseMessage, reason, time.Now().Add(socketWrite))
}

// stop ends reading, now and for good.
func (c *conn) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	_ = c.ws.SetReadDeadline(time.Now())
}

// alive notes that the peer has said something.
func (c *conn) alive(string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return nil
	}
	return c.ws.SetReadDeadline(time.Now().Add(socketSilent))
}

// read takes messages until the peer or the server ends, and returns what to close with.
func (c *conn) read(answering context.Context) []byte {
	c.ws.SetPongHandler(c.alive)
	_ = c.alive("")
	ctx, cancel := context.WithCancel(answering)
	defer cancel()
	go func() {
		select {
		case <-c.s.drain:
			c.stop()
			cancel()
		case <-ctx.Done():
		}
	}()
	for {
		err := c.next(ctx, answering)
		switch {
		case err == nil:
		case errors.Is(err, errTooLarge):
			return websocket.FormatCloseMessage(websocket.CloseMessageTooBig, fmt.Sprintf("a message may have %d bytes", c.s.c.MaxBody))
		case errors.Is(err, errFull):
			return websocket.FormatCloseMessage(websocket.CloseTryAgainLater, "too much is on its way; send what was not answered again")
		case c.s.isDraining():
			return websocket.FormatCloseMessage(websocket.CloseGoingAway, stopping+"; send what was not answered again")
		default:
			return websocket.FormatCloseMessage(websocket.CloseNormalClosure, "")
		}
	}
}

func (s *Server) isDraining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

// smallMessage is how long a message is that room is made for before it is read.
const smallMessage = 64 << 10

// next reads a message and hands it over. While there is no room for it, it is not
// read, so that the peer has to wait.
func (c *conn) next(ctx, answering context.Context) error {
	s := c.s
	if err := c.pace(ctx); err != nil {
		return err
	}
	_, r, err := c.ws.NextReader() // returns when a message has begun
	if err != nil {
		return err
	}
	buf := &buffer{s: s, limit: s.c.MaxBody, held: smallMessage}
	if err := s.memory.Acquire(ctx, smallMessage); err != nil {
		return err
	}
	_ = c.alive("")
	if _, err = buf.ReadFrom(r); err != nil {
		s.memory.Release(buf.held)
		return err
	}
	if over := buf.held - int64(cap(buf.b)) - overhead/16; over > 0 {
		s.memory.Release(over)
		buf.held -= over
	}
	return c.handOver(ctx, answering, buf)
}

// handOver gives a message to whoever takes it. One that was taken is answered, also
// when reading ends meanwhile.
func (c *conn) handOver(ctx, answering context.Context, buf *buffer) error {
	s := c.s
	m := &Message{Data: buf.b, Key: c.key, First: c.line, From: c.from}
	c.line += max(1, lines(m.Data))
	m.req = newRequest(1, func() { s.memory.Release(buf.held) })
	if len(bytes.TrimSpace(m.Data)) == 0 {
		m.Done(nil)
	} else {
		select {
		case s.queue <- m:
		case <-s.drain:
			m.Done(errNotTaken)
			return errNotTaken
		case <-ctx.Done():
			m.Done(errNotTaken)
			return ctx.Err()
		}
	}
	select {
	case c.acks <- m.req:
		return nil
	case <-answering.Done():
		return answering.Err()
	}
}

// pace waits for the rate limit.
func (c *conn) pace(ctx context.Context) error {
	for c.s.c.Limit != nil {
		wait, err := c.s.c.Limit(ctx)
		if err == nil && wait <= 0 {
			break
		}
		t := time.NewTimer(max(wait, 10*time.Millisecond))
		select {
		case <-t.C:
		case <-c.s.drain:
			t.Stop()
			return errNotTaken
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
	return nil
}

// answer writes a frame for each message, and pings.
func (c *conn) answer(ctx context.Context) {
	ping := time.NewTicker(socketPing)
	defer ping.Stop()
	for n := int64(1); ; n++ {
		var req *request
		for req == nil {
			select {
			case next, ok := <-c.acks:
				if !ok {
					return
				}
				req = next
			case <-ping.C:
				if c.write(websocket.PingMessage, nil) != nil {
					return
				}
			}
		}
		if !c.answerOne(ctx, n, req, ping.C) {
			return
		}
	}
}

func (c *conn) answerOne(ctx context.Context, n int64, req *request, ping <-chan time.Time) bool {
	a := ack{N: n}
	for waiting := true; waiting; {
		select {
		case <-req.done:
			waiting = false
			if req.err != nil {
				a.Error = "not committed; send it again"
				break
			}
			a.OK, a.Rows, a.Quarantined = true, req.rows.Load(), req.quarantined.Load()
		case <-c.s.closed:
			select {
			case <-req.done:
				continue // both: the rows decide
			default:
			}
			waiting = false
			a.Error = fmt.Sprintf("%s, and the rows are not known to be committed; send it again", stopping)
		case <-ping:
			if c.write(websocket.PingMessage, nil) != nil {
				return false
			}
		case <-ctx.Done():
			return false
		}
	}
	out, _ := json.Marshal(a) //nolint:errchkjson // numbers and texts of ours
	return c.write(websocket.TextMessage, out) == nil
}

func (c *conn) write(kind int, data []byte) error {
	_ = c.ws.SetWriteDeadline(time.Now().Add(socketWrite))
	return c.ws.WriteMessage(kind, data)
}
