package sources

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gorilla/websocket"

	"github.com/tidemill/tidemill/internal/testserver"
)

// poster is a client of an http_server that sends a message until it is answered with 200, to
// whichever process the proxy leads to: as JSON lines, an array, NDJSON packed with gzip, CSV, or by
// WebSocket.
type poster struct {
	t     *testing.T
	proxy *testserver.Forward
	path  string
	// keyed: each message has an Idempotency-Key. twice: some are sent again though the
	// answer came.
	keyed, twice bool
	client       *http.Client
	sockets      chan *websocket.Conn // that nobody uses just now
	n            atomic.Int64
}

func (p *poster) send(ctx context.Context, m message) error {
	n := p.n.Add(1)
	again := p.twice && n%8 == 0
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var err error
		if n%5 == 4 {
			err = p.socket(ctx, n, m)
		} else {
			err = p.post(ctx, n, m)
		}
		if err == nil && !again {
			return nil
		}
		if err == nil {
			again = false
		}
		select {
		case <-ctx.Done():
			return err
		case <-tick.C:
		}
	}
}

func (p *poster) header(n int64) http.Header {
	h := http.Header{}
	if p.keyed {
		h.Set("Idempotency-Key", fmt.Sprint("message-", n))
	}
	return h
}

func (p *poster) post(ctx context.Context, n int64, m message) error {
	body, header := m.lines(), p.header(n)
	switch n % 5 {
	case 1:
		if !slices.ContainsFunc(m, poison) { // which is no JSON
			body = append(append([]byte{'['}, bytes.ReplaceAll(body, []byte("}\n"), []byte("},\n"))...), ']')
		}
	case 2:
		header.Set("Content-Type", "application/x-ndjson")
		header.Set("Content-Encoding", "gzip")
		var z bytes.Buffer
		w := gzip.NewWriter(&z)
		_, _ = w.Write(body)
		_ = w.Close()
		body = z.Bytes()
	case 3:
		header.Set("Content-Type", "text/csv")
		body = m.csv()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+p.proxy.Addr+p.path, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header = header
	resp, err := p.client.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	switch {
	case resp.StatusCode == http.StatusOK:
		return nil // whatever became of the rest of the answer
	case resp.StatusCode != http.StatusServiceUnavailable && resp.StatusCode != http.StatusNotFound:
		p.t.Errorf("%s: %s %s", p.path, resp.Status, text)
	}
	return fmt.Errorf("%s %s %w", resp.Status, text, err)
}

// socket sends a message by a connection that is there, or by one of its own if it has a key.
func (p *poster) socket(ctx context.Context, n int64, m message) (err error) {
	var c *websocket.Conn
	select {
	case c = <-p.sockets:
	default:
		var resp *http.Response
		if c, resp, err = websocket.DefaultDialer.DialContext(ctx, "ws://"+p.proxy.Addr+p.path+"/ws", p.header(n)); err != nil {
			return err
		}
		_ = resp.Body.Close()
	}
	var answer struct{ OK bool }
	if err = c.WriteMessage(websocket.TextMessage, m.lines()); err == nil {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		err = c.ReadJSON(&answer)
	}
	if err == nil && !answer.OK {
		err = errors.New("not taken")
	}
	if err != nil || p.keyed {
		_ = c.Close()
		return err
	}
	p.sockets <- c
	return nil
}

// httpServerSources are three paths: with a key in each request, with dedupe in the contract, and
// with neither, where a row that is sent again may land again.
func httpServerSources(t *testing.T, at [2]string) (out []source) {
	t.Helper()
	for name, p := range map[string]*poster{
		"http_keys": {keyed: true, twice: true}, "http_dedupe": {twice: true}, "http_plain": {},
	} {
		const lanes = 12
		p.t, p.proxy, p.path, p.sockets = t, testserver.StartForward(t), "/"+name, make(chan *websocket.Conn, lanes)
		p.client = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
		p.proxy.Aim(at[:]...)
		out = append(out, source{
			name: name, once: name != "http_plain", proxy: p.proxy, lanes: lanes, rows: 3,
			input: fmt.Sprintf("  http_server:\n    path: %s\n    timeout: 2s\n", p.path),
			send:  p.send,
		})
	}
	return out
}
