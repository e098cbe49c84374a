package files

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Reader hands over the rows of objects block by block. It lists in one goroutine and
// reads in several; what it has read and nobody has taken yet is one block of each.
//
// Of every object that is there it remembers a few words, about 200 bytes with the name,
// so that it need not be opened again.
type Reader struct {
	c      Config
	cancel context.CancelFunc
	blocks chan Block
	done   chan struct{} // closed when everything has ended

	mu      sync.Mutex
	objects map[string]*object
	busy    int           // guarded by mu: objects handed to readers
	idle    chan struct{} // a word when busy becomes 0
}

// object is what is remembered of one object.
type object struct {
	version string // that was handed to a reader last
	round   uint64 // of the listing that saw it last
	state   state
	since   time.Time // when this version was first seen
	retry   time.Time // failed: not before
	fails   int       // attempts that failed in a row
	follow  *follow
}

type state uint8

const (
	fresh   state = iota
	reading       // by one of the readers
	waiting       // it may still be being written
	failed        // to be tried again
	read          // as far as it goes
	left          // it is not for us, or was given up
)

// New starts reading. Close ends it.
func New(c Config) *Reader {
	c.fill()
	ctx, cancel := context.WithCancel(context.Background())
	r := &Reader{
		c: c, cancel: cancel, blocks: make(chan Block), done: make(chan struct{}),
		objects: map[string]*object{}, idle: make(chan struct{}, 1),
	}
	jobs := make(chan job)
	var readers sync.WaitGroup
	for range c.Parallel {
		readers.Go(func() {
			for j := range jobs {
				r.work(ctx, j)
			}
		})
	}
	go func() {
		defer close(r.done)
		r.look(ctx, jobs)
		close(jobs)
		readers.Wait()
	}()
	return r
}

// Next returns the next block; io.EOF when there will be no more.
func (r *Reader) Next(ctx context.Context) (Block, error) {
	select {
	case b := <-r.blocks:
		return b, nil
	case <-ctx.Done():
		return Block{}, ctx.Err()
	case <-r.done:
		return Block{}, io.EOF
	}
}

// Close ends reading, and waits for it.
func (r *Reader) Close() {
	r.cancel()
	<-r.done
}

// job is an object for a reader.
type job struct {
	place Place
	o     Object
	at    *object

	// How far it was handed over before an attempt failed.
	partition string
	next      int64
}

// look lists objects and hands those out that there is something to read of.
func (r *Reader) look(ctx context.Context, jobs chan<- job) {
	for round, wait := uint64(1), time.Duration(0); ; round++ {
		complete := true
		for _, p := range r.c.Places {
			if err := r.list(ctx, p, round, jobs); err != nil && ctx.Err() == nil {
				complete = false
				r.c.Logger.Error("objects cannot be listed", "path", p.String(), "error", err.Error())
				if r.c.Poll == 0 && !objstore.Retryable(err) {
					complete = true // it would be the same again
				}
			}
		}
		if complete {
			r.forget(round)
			wait = 0
		} else {
			wait = min(30*time.Second, max(r.c.Retry, 2*wait))
		}
		if round == 1 {
			r.warnOfNothing()
		}
		if r.c.Poll == 0 {
			r.rest(ctx)
			pending, soon := r.pending()
			if ctx.Err() != nil || complete && !pending {
				return
			}
			wait = max(wait, soon)
		}
		if !sleep(ctx, max(wait, r.c.Poll)) {
			return
		}
	}
}

func (r *Reader) warnOfNothing() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.objects) == 0 {
		for _, p := range r.c.Places {
			r.c.Logger.Warn("there are no objects", "path", p.String())
		}
	}
}

// page is how many objects of a listing are dealt out in no certain order: processes
// that work on one prefix are then seldom at the same object.
const page = 500

// list hands out the objects of one place that have something new.
func (r *Reader) list(ctx context.Context, p Place, round uint64, jobs chan<- job) error {
	batch := make([]job, 0, page)
	deal := func() bool {
		rand.Shuffle(len(batch), func(i, k int) { batch[i], batch[k] = batch[k], batch[i] })
		for _, j := range batch {
			select {
			case jobs <- j:
			case <-ctx.Done():
				return false
			}
		}
		batch = batch[:0]
		return true
	}
	for o, err := range p.List(ctx) {
		if err != nil {
			deal()
			return err
		}
		if at := r.take(o, round); at != nil {
			batch = append(batch, job{place: p, o: o, at: at})
		}
		if len(batch) == page && !deal() {
			return ctx.Err()
		}
	}
	deal()
	return ctx.Err()
}

// take decides whether an object is to be looked into, and marks it so.
func (r *Reader) take(o Object, round uint64) *object {
	r.mu.Lock()
	defer r.mu.Unlock()
	at, ok := r.objects[o.Name]
	if !ok {
		at = &object{}
		r.objects[o.Name] = at
	}
	if at.round == round { // by another path
		return nil
	}
	at.round = round
	now := time.Now()
	if at.version != o.Version && at.state != reading {
		at.state, at.since, at.fails, at.version = fresh, now, 0, o.Version
	}
	switch at.state {
	case reading, read, left:
		return nil
	case failed:
		if now.Before(at.retry) {
			return nil
		}
	}
	at.state = reading
	r.busy++
	return at
}

// settle notes how a reader left an object.
func (r *Reader) settle(j job, s state) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.at.state = s
	if s != failed {
		j.at.fails = 0
	}
	if r.busy--; r.busy == 0 {
		select {
		case r.idle <- struct{}{}:
		default:
		}
	}
}

// rest waits until no reader has an object.
func (r *Reader) rest(ctx context.Context) {
	for {
		r.mu.Lock()
		busy := r.busy
		r.mu.Unlock()
		if busy == 0 {
			return
		}
		select {
		case <-r.idle:
		case <-ctx.Done():
			return
		}
	}
}

// pending says whether any object is to be looked at again, and how soon.
func (r *Reader) pending() (some bool, soon time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	soon = min(max(r.c.Still/4, 10*time.Millisecond), 2*time.Second)
	for _, at := range r.objects {
		some = some || at.state == waiting || at.state == failed || at.state == fresh
	}
	return some, soon
}

// forget drops what the last listing did not see.
func (r *Reader) forget(round uint64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for name, at := range r.objects {
		if at.round != round && at.state != reading {
			delete(r.objects, name)
		}
	}
}

// tries is how often an object that cannot be read is tried when the reader is to end.
const tries = 3

// work reads one object as far as it goes. What may mend itself is tried again until it
// does; what is wrong with one object only does not hold up others.
func (r *Reader) work(ctx context.Context, j job) {
	for wait := r.c.Retry; ; wait = min(2*wait, 30*time.Second) {
		s, err := r.open(ctx, &j)
		switch {
		case ctx.Err() != nil:
			r.settle(j, failed)
			return
		case err == nil:
			r.settle(j, s)
			return
		case errors.Is(err, fs.ErrNotExist):
			r.c.Logger.Debug("object is gone", "object", j.o.Name)
			r.settle(j, left)
			return
		case errors.Is(err, ErrReplaced):
			o, serr := j.place.Stat(ctx, j.o.Name)
			if serr != nil || o.Version == j.o.Version {
				r.settle(j, r.fail(j, err))
				return
			}
			r.c.Logger.Warn("object was replaced while it was read; what it has now is another source", "object", j.o.Name)
			r.renew(&j, o)
		case objstore.Retryable(err):
			r.c.Logger.Warn("object cannot be read now; trying again", "object", j.o.Name, "error", err.Error(), "in", wait.String())
			if !sleep(ctx, wait) {
				r.settle(j, failed)
				return
			}
		default:
			r.settle(j, r.fail(j, err))
			return
		}
	}
}

// renew goes on with an object as it is now.
func (r *Reader) renew(j *job, o Object) {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.o = o
	j.at.version, j.at.since, j.at.fails = o.Version, time.Now(), 0
}

// fail says of an object that it cannot be read, and when to try again.
func (r *Reader) fail(j job, err error) state {
	r.mu.Lock()
	defer r.mu.Unlock()
	j.at.fails++
	wait := min(5*time.Minute, r.c.Retry<<min(j.at.fails, 10))
	j.at.retry = time.Now().Add(wait)
	if r.c.Poll == 0 && j.at.fails >= tries {
		r.c.Logger.Error("object cannot be read and is given up; its rows are not in", "object", j.o.Name, "error", err.Error())
		return left
	}
	r.c.Logger.Error("object cannot be read; trying again", "object", j.o.Name, "error", err.Error(), "in", wait.String())
	return failed
}

// open finds out what an object is and reads it.
func (r *Reader) open(ctx context.Context, j *job) (state, error) {
	if j.o.Fixed && r.ended(ctx, partitionOf(j.o.Name, []byte(j.o.Version))) {
		return read, nil // without a look at it
	}
	if j.o.Size == 0 {
		return read, nil
	}
	at, err := j.place.Open(ctx, j.o)
	if err != nil {
		return failed, err
	}
	defer at.Close()
	head, err := readHead(at, j.o.Size)
	if err != nil {
		return failed, err
	}
	f := formatOf(r.c.Format, j.o.Name, head)
	if f == "" {
		r.c.Logger.Warn("object is left out: neither its name's ending nor how it begins tells its format; say format, or name it .ndjson, .csv, .parquet or .avro", "object", j.o.Name)
		return left, nil
	}
	if f == NDJSON && !j.o.Fixed && compressionOf(head) == Plain {
		return r.followFile(ctx, j, at, head)
	}
	if !j.o.Fixed && !r.still(j) {
		return waiting, nil
	}
	return r.readFixed(ctx, j, at, f, head)
}

// still says whether a local file has rested for long enough to be complete.
func (r *Reader) still(j *job) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return time.Since(j.o.ModTime) >= r.c.Still || time.Since(j.at.since) >= r.c.Still
}

// readFixed reads an object whose content does not change.
func (r *Reader) readFixed(ctx context.Context, j *job, at Content, f Format, head []byte) (state, error) {
	part, err := fixedPartition(at, j.o, head)
	if err != nil {
		return failed, err
	}
	if r.ended(ctx, part) {
		return read, nil
	}
	if j.partition != part {
		j.partition, j.next = part, 0
	}
	from := max(j.next, r.firstMissing(ctx, part))
	rows, err := r.c.rows(ctx, at, j.o, f, head, from)
	var d damage
	if errors.As(err, &d) {
		r.c.Logger.Error("object cannot be read; it is in the quarantine table", "object", j.o.Name, "error", err.Error())
		return read, r.send(ctx, Block{Object: j.o.Name, Partition: part, First: from, Rows: 1, End: true,
			Bad: &Bad{RuleUnreadable, fmt.Sprintf("%s: %v", j.o.Name, err)}})
	}
	if err != nil {
		return failed, err
	}
	defer rows.close()
	if err := r.pass(ctx, j, from, rows); err != nil {
		return failed, err
	}
	if j.o.Fixed {
		return read, nil
	}
	if o, err := j.place.Stat(ctx, j.o.Name); err == nil && o.Version != j.o.Version {
		r.c.Logger.Error("file was changed while it was read; what it has now is another source, and rows of before may come again. "+
			"Write files under another name and rename them when they are complete", "object", j.o.Name)
		r.renew(j, o)
		return waiting, nil
	}
	return read, nil
}

// pass hands over rows, one block late: the last one says that it is the last.
func (r *Reader) pass(ctx context.Context, j *job, from int64, rows rowReader) error {
	var last *Block
	flush := func(end bool) error {
		if last == nil {
			return nil
		}
		last.End = end
		if err := r.send(ctx, *last); err != nil {
			return err
		}
		j.next, last = last.First+last.Rows, nil
		return nil
	}
	for {
		b, err := rows.next()
		var d damage
		switch {
		case errors.Is(err, io.EOF) && !errors.As(err, &d):
			return flush(true)
		case err != nil && !errors.As(err, &d):
			return errors.Join(flush(false), err)
		}
		if err := flush(false); err != nil {
			return err
		}
		if d.err != nil {
			b = r.torn(j, max(from, j.next), rows, d)
		}
		last = &Block{Object: j.o.Name, Partition: j.partition, First: b.first, Rows: b.rows, Data: b.data, Bad: b.bad}
		if d.err != nil {
			return flush(true)
		}
	}
}

// torn is the rest of an object that cannot be read.
func (r *Reader) torn(j *job, row int64, rows rowReader, d damage) block {
	r.c.Logger.Error("the rest of an object cannot be read; its place is in the quarantine table", "object", j.o.Name, "row", row, "error", d.Error())
	b := block{first: row, rows: 1, bad: &Bad{RuleUnreadable, fmt.Sprintf("%s from row %d on: %v", j.o.Name, row, d)}}
	if l, ok := rows.(*lineReader); ok {
		b.data = l.torn
	}
	return b
}

func (r *Reader) send(ctx context.Context, b Block) error {
	select {
	case r.blocks <- b:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
