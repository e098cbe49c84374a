package pgchanges

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"

	"github.com/klauspost/compress/zstd"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// page is some rows of a table, and what comes behind them.
type page struct {
	first  int64 // offset of its first row; the others count on
	rows   int
	lines  [][]byte
	packed []byte // the lines, as they are stored
	mark   mark
	acked  bool // its rows are in, or processors dropped them; there are no lines any more
}

// next is the offset behind the page.
func (p *page) next() int64 { return p.first + int64(p.rows) }

// maxStaged is how large a page can be, in bytes: its last row may be as large as PostgreSQL allows.
const maxStaged = 2 << 30

// stage keeps the page that is on its way, in the store and beside the table, from before its
// rows are handed out until they are in. It is what makes a page the same one for every process
// that reads it: the same rows with the same offsets, whatever has changed in the database
// since and whatever of it has landed.
//
// An object of a page is written if it is not there. Its writer then makes sure that it still has
// the lock, and only then hands the page out. Who takes the lock over looks at the objects afterwards,
// so that it finds the page of anyone who has handed one out, and takes it as it is.
type stage struct {
	store objstore.Store // of a slot on a server
	log   *slog.Logger
	kept  *page // was acked, and is not known to be in; nil: none
}

// key begins with where the slot began, so that the last one is of the newest page.
func (p *page) key() string { return fmt.Sprintf("%016X/%020d.page", uint64(p.mark.LSN), p.first) }

// head is the first line of an object; the rows follow, compressed, one a line.
type head struct {
	First int64 `json:"first"`
	Rows  int   `json:"rows"`
	Mark  mark  `json:"mark"`
	Acked bool  `json:"acked,omitempty"`
}

// newest returns the page that was staged last; nil if there is none.
func (s *stage) newest(ctx context.Context) (*page, error) {
	last := ""
	for o, err := range s.store.List(ctx, "", "") {
		if err != nil {
			return nil, fmt.Errorf("look for the snapshot's page: %w", err)
		}
		last = o.Key
	}
	if last == "" {
		return nil, nil
	}
	return s.load(ctx, last)
}

func (s *stage) load(ctx context.Context, key string) (*page, error) {
	data, err := s.store.Get(ctx, key)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot's page: %w", err)
	}
	p, err := decodePage(data)
	if err != nil {
		return nil, fmt.Errorf("read the snapshot's page %s: %w", key, err)
	}
	if p.key() != key {
		return nil, fmt.Errorf("read the snapshot's page %s: it holds what belongs in %s", key, p.key())
	}
	return p, nil
}

// put stages a page. If one is there, another process has read it before: then that one is the page.
func (s *stage) put(ctx context.Context, p *page) (*page, error) {
	data, err := p.encode()
	if err != nil {
		return nil, err
	}
	err = s.store.PutIfAbsent(ctx, p.key(), data)
	if errors.Is(err, fs.ErrExist) { // or this one was stored, and the answer lost
		there, err := s.load(ctx, p.key())
		if err != nil {
			return nil, err
		}
		if there.acked || there.mark.Snapshot != p.mark.Snapshot || !there.mark.Time.Equal(p.mark.Time) {
			return nil, fmt.Errorf("the snapshot's page %s is another process's, which has gone on; it is tried again", p.key())
		}
		p = there
	} else if err != nil {
		return nil, fmt.Errorf("keep the snapshot's page until it is in: %w", err)
	}
	if s.kept != nil {
		s.drop(ctx, s.kept)
		s.kept = nil
	}
	return p, nil
}

// drop deletes a page that is done with. One that stays does no harm.
func (s *stage) drop(ctx context.Context, p *page) {
	if err := s.store.Delete(ctx, p.key()); err != nil {
		s.log.Warn("a page of the snapshot stays beside the table, since it cannot be deleted", slog.String("object", p.key()), slog.Any("error", err))
	}
}

// end notes that the last page was acked, when the log does not have its mark: processors have
// dropped its last rows.
func (s *stage) end(ctx context.Context, p *page) error {
	over := &page{first: p.first, rows: p.rows, mark: p.mark, acked: true}
	data, err := over.encode()
	if err != nil {
		return err
	}
	if err := s.store.Put(ctx, over.key(), data); err != nil {
		return fmt.Errorf("note that the snapshot has ended: %w", err)
	}
	return nil
}

// clear deletes what there is of pages.
func (s *stage) clear(ctx context.Context) error {
	for o, err := range s.store.List(ctx, "", "") {
		if err == nil {
			err = s.store.Delete(ctx, o.Key)
		}
		if err != nil {
			return fmt.Errorf("delete the pages of a snapshot that is over: %w", err)
		}
	}
	return nil
}

// tidy is clear where what stays does no harm.
func (s *stage) tidy(ctx context.Context) {
	if err := s.clear(ctx); err != nil {
		s.log.Warn("pages of the snapshot stay beside the table", slog.Any("error", err))
	}
}

func (p *page) encode() ([]byte, error) {
	text, err := json.Marshal(head{First: p.first, Rows: p.rows, Mark: p.mark, Acked: p.acked})
	if err != nil {
		return nil, fmt.Errorf("encode the snapshot's page: %w", err)
	}
	return slices.Concat(text, []byte{'\n'}, p.packed), nil
}

// pack makes the rows ready to be stored.
func (p *page) pack() error {
	w, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithEncoderCRC(true))
	if err != nil {
		return fmt.Errorf("encode the snapshot's page: %w", err)
	}
	p.packed = w.EncodeAll(bytes.Join(p.lines, []byte{'\n'}), nil)
	return nil
}

func decodePage(data []byte) (*page, error) {
	text, packed, _ := bytes.Cut(data, []byte{'\n'})
	var h head
	if err := json.Unmarshal(text, &h); err != nil {
		return nil, err
	}
	p := &page{first: h.First, rows: h.Rows, mark: h.Mark, acked: h.Acked}
	if p.acked {
		return p, nil
	}
	r, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxStaged))
	if err != nil {
		return nil, err
	}
	defer r.Close()
	lines, err := r.DecodeAll(packed, nil)
	if err != nil {
		return nil, err
	}
	if p.lines = bytes.Split(lines, []byte{'\n'}); len(p.lines) != p.rows {
		return nil, fmt.Errorf("it has %d rows of %d", len(p.lines), p.rows)
	}
	return p, nil
}
