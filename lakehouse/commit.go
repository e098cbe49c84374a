package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/tidemill/tidemill/lakehouse/delta"
	"github.com/tidemill/tidemill/lakehouse/objstore"
)

// Commit is what is to be changed in a table, all of it or nothing.
type Commit struct {
	Adds    []File // from WriteFiles
	Removes []File // from a snapshot
	Txns    []delta.Txn
	// ExpectTxn are the versions that applications must have for this commit to be
	// right, -1 for none: compare and swap.
	ExpectTxn map[string]int64
	// Rearranged says that the rows stay the same, as in a compaction: those who follow
	// the table need not look.
	Rearranged bool
	Operation  string            // as in the table's history; "WRITE" when empty
	Parameters map[string]string // of the operation, for people
	// Fault, if not nil, is called at "before-commit" and "after-commit"; tests crash there.
	Fault func(point string)

	metadata *delta.Metadata
}

// ErrOutcomeUnknown: the store did not say whether the commit is in, and did not answer
// the question either. It may be in already, or come in yet. Do not delete its files;
// do the work again and let positions or ExpectTxn decide.
var ErrOutcomeUnknown = errors.New("outcome of the commit is unknown")

// TxnMovedError says that an application's version in the table is not the expected
// one: another has done the work, or part of it.
type TxnMovedError struct {
	AppID string
	Have  int64 // -1: none
	Want  int64
}

func (e *TxnMovedError) Error() string {
	return fmt.Sprintf("txn %s has version %d in the table, expected %d", e.AppID, e.Have, e.Want)
}

// ConflictError says that another commit took away what this one builds on. Plan again.
type ConflictError struct{ Reason string }

func (e *ConflictError) Error() string { return "conflicting commit: " + e.Reason }

// Commit puts a commit into the table's log and returns its version. Others may commit
// at the same time: each of theirs that came first is judged, and this one goes in
// behind it unless one of these errors says why not:
//
//	*TxnMovedError     ExpectTxn does not hold, or Txns are not newer than what is there
//	*ConflictError     a file of Removes is gone, or the table's schema changed under Removes
//	ErrSchemaChanged   the files of Adds do not fit the table any more
//	ErrFilesTooOld     the files of Adds were stored too long ago
//	ErrOutcomeUnknown  the context ended, or the store refused to go on, at the worst moment
//
// After any other error nothing was committed. While the store is failing in ways that
// pass, it goes on trying until the context ends.
func (t *Table) Commit(ctx context.Context, c Commit) (int64, error) {
	var base *Snapshot
	return t.commit(ctx, func(s *Snapshot) (*Commit, error) {
		if base == nil {
			base = s
		}
		if err := t.judge(base, s, &c); err != nil {
			return nil, err
		}
		return &c, nil
	})
}

// judge says whether a commit that was planned on one snapshot may follow another.
func (t *Table) judge(base, s *Snapshot, c *Commit) error {
	for app, want := range c.ExpectTxn {
		have, ok := s.Txn(app)
		if !ok {
			have = -1
		}
		if have != want {
			return &TxnMovedError{AppID: app, Have: have, Want: want}
		}
	}
	for _, x := range c.Txns {
		if _, ok := c.ExpectTxn[x.AppID]; ok {
			continue
		}
		have, ok := s.Txn(x.AppID)
		was, had := base.Txn(x.AppID)
		if ok && (have >= x.Version || !had || have != was) {
			return &TxnMovedError{AppID: x.AppID, Have: have, Want: was}
		}
	}
	if len(c.Removes) == 0 {
		return nil
	}
	if s.meta != base.meta {
		return &ConflictError{"the table's schema changed"}
	}
	if !c.Rearranged && s.Configuration()["delta.appendOnly"] == "true" {
		return &delta.UnsupportedError{Feature: "appendOnly", Detail: "the table's owner allows no deletes"}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for i := range c.Removes {
		if _, ok := t.history.live[c.Removes[i].Path]; !ok {
			return &ConflictError{"file " + c.Removes[i].Path + " was removed"}
		}
	}
	return nil
}

// commit makes and writes a commit. plan is asked for it, and again after each commit
// of another that came in between; with nil there is nothing to do, and the version is
// the snapshot's. The commits of one Table go one after the other.
func (t *Table) commit(ctx context.Context, plan func(*Snapshot) (*Commit, error)) (int64, error) {
	select {
	case t.committing <- struct{}{}:
		defer func() { <-t.committing }()
	case <-ctx.Done():
		return 0, fmt.Errorf("commit to table %s: %w", t.root, ctx.Err())
	}
	if t.stale() {
		if err := t.keepTrying(ctx, func() error { _, err := t.Refresh(ctx); return err }); err != nil {
			return 0, fmt.Errorf("commit to table %s: %w", t.root, err)
		}
	}
	if err := t.turns.yield(ctx, t.Snapshot()); err != nil {
		return 0, fmt.Errorf("commit to table %s: %w", t.root, err)
	}
	for {
		s := t.Snapshot()
		c, err := plan(s)
		if err == nil && c != nil {
			err = s.meta.unwritable
		}
		if err != nil {
			return 0, fmt.Errorf("commit to table %s: %w", t.root, err)
		}
		if c == nil {
			return s.version, nil
		}
		for i := range c.Adds {
			if err := stillFits(c.Adds[i].meta, s.meta); err != nil {
				return 0, fmt.Errorf("commit to table %s: %w", t.root, err)
			}
		}
		version := s.version + 1
		began := time.Now()
		won, err := t.attempt(ctx, version, t.actions(c), c)
		if err != nil {
			return 0, fmt.Errorf("commit version %d of table %s: %w", version, t.root, err)
		}
		t.turns.note(version, won, time.Since(began))
		if won {
			return version, nil
		}
		t.opt.logger.DebugContext(ctx, "lost the race for a version", slog.String("table", t.root), slog.Int64("version", version))
		if err := t.keepTrying(ctx, func() error { _, err := t.Refresh(ctx); return err }); err != nil {
			return 0, fmt.Errorf("commit to table %s: %w", t.root, err)
		}
	}
}

// actions spells a commit out.
func (t *Table) actions(c *Commit) *delta.Commit {
	now := t.opt.now()
	d := &delta.Commit{Metadata: c.metadata, Txns: slices.Clone(c.Txns)}
	for i := range d.Txns {
		if d.Txns[i].LastUpdated == 0 {
			d.Txns[i].LastUpdated = now.UnixMilli()
		}
	}
	for i := range c.Adds {
		d.Adds = append(d.Adds, c.Adds[i].add(!c.Rearranged))
	}
	for i := range c.Removes {
		d.Removes = append(d.Removes, c.Removes[i].remove(now, !c.Rearranged))
	}
	return d
}

// attempt writes a commit at one version and returns only when that version is decided:
// true, it is ours; false, it is another's. With an error it is undecided or refused.
//
// An answer other than "stored" proves nothing: an answer can be lost after the store
// has acted, and a request can be carried out after its sender gave up. So the version
// is read back. If it is there, its txnId says whose it is. If not, an earlier request
// may still arrive, and the same bytes go to the same version again: whichever of them
// comes first makes the version ours, and another's makes it lost for all of them.
func (t *Table) attempt(ctx context.Context, version int64, d *delta.Commit, c *Commit) (won bool, err error) {
	d.Info = t.info(c)
	data, err := d.Encode()
	if err != nil {
		return false, err
	}
	if c.Fault != nil {
		c.Fault("before-commit")
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	doubt := false
	for try := 1; ; try++ {
		if err := t.young(c.Adds); err != nil {
			if doubt {
				err = fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
			}
			return false, err
		}
		err := t.store.PutIfAbsent(ctx, commitKey(version), data)
		switch {
		case err == nil && t.Snapshot() != nil && t.stale():
			return t.overslept(ctx, version, d, c)
		case err == nil:
			return true, t.won(version, d, c)
		case errors.Is(err, objstore.ErrNoConditionalPut), errors.Is(err, objstore.ErrInvalidKey):
			return false, err
		case errors.Is(err, objstore.ErrConflict): // this call did nothing
		default:
			doubt = doubt || !errors.Is(err, fs.ErrExist)
			winner, rerr := t.readCommit(ctx, version)
			switch {
			case rerr == nil && winner.Info != nil && winner.Info.TxnID == d.Info.TxnID:
				t.opt.logger.DebugContext(ctx, "a commit whose answer was lost is in", slog.String("table", t.root), slog.Int64("version", version))
				return true, t.won(version, d, c)
			case rerr == nil:
				return false, t.lost(version, winner)
			case ctx.Err() == nil && (errors.Is(rerr, fs.ErrNotExist) && (objstore.Retryable(err) || errors.Is(err, fs.ErrExist)) || objstore.Retryable(rerr)):
				t.opt.logger.DebugContext(ctx, "commit in doubt, sending it again", slog.String("table", t.root), slog.Int64("version", version), slog.Any("error", err))
			default:
				return false, fmt.Errorf("%w: %w; reading it back: %w", ErrOutcomeUnknown, err, rerr)
			}
		}
		if werr := t.opt.wait(ctx, try); werr != nil {
			if doubt {
				return false, fmt.Errorf("%w: %w: %w", ErrOutcomeUnknown, werr, err)
			}
			return false, fmt.Errorf("%w: %w", werr, err)
		}
	}
}

func (t *Table) info(c *Commit) *delta.CommitInfo {
	op := c.Operation
	if op == "" {
		op = "WRITE"
	}
	params := delta.Parameters(c.Parameters)
	if params == nil {
		params = delta.Parameters{} // some readers take no null
	}
	return &delta.CommitInfo{
		Timestamp: t.opt.now().UnixMilli(), Operation: op, OperationParameters: params,
		IsBlindAppend: len(c.Removes) == 0 && c.metadata == nil, EngineInfo: delta.EngineInfo, TxnID: uuid.NewString(),
	}
}

// won puts our commit onto the snapshot.
func (t *Table) won(version int64, d *delta.Commit, c *Commit) error {
	if c.Fault != nil {
		c.Fault("after-commit")
	}
	if t.Snapshot() == nil { // being created
		return nil
	}
	if err := t.apply(version, d); err != nil {
		return err
	}
	t.mu.Lock()
	t.confirm()
	t.mu.Unlock()
	t.maybeCheckpoint()
	return nil
}

// overslept decides about a version that was stored after a long time without a look at
// the log. The version may have been won by another in the meantime, and cleaned up: then
// ours stands before the log's first commit, where nobody reads it. Clean-up deletes the
// oldest first, so ours is good if the commit before it is there.
func (t *Table) overslept(ctx context.Context, version int64, d *delta.Commit, c *Commit) (bool, error) {
	err := t.keepTrying(ctx, func() error { _, err := t.store.Stat(ctx, commitKey(version-1)); return err })
	switch {
	case err == nil:
		return true, t.won(version, d, c)
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("%w: %w", ErrOutcomeUnknown, err)
	}
	t.opt.logger.WarnContext(ctx, "a commit came after its version was won by another and cleaned up; it is made again", slog.String("table", t.root), slog.Int64("version", version))
	if err := t.store.Delete(ctx, commitKey(version)); err != nil {
		t.opt.logger.WarnContext(ctx, "it is left over in front of the log", slog.String("table", t.root), slog.Any("error", err))
	}
	return false, t.keepTrying(ctx, func() error { return t.load(ctx) })
}

// ErrFilesTooOld: the files of a commit were stored so long ago that vacuuming may take
// them for left over. Write them again.
var ErrFilesTooOld = errors.New("the files to be committed were written too long ago")

// young refuses files whose commit would come close to the time when vacuuming takes
// those that are in no commit for left over.
func (t *Table) young(files []File) error {
	s := t.Snapshot()
	if s == nil {
		return nil
	}
	now, limit := t.opt.now(), tombstoneRetention(s)/2
	for i := range files {
		f := &files[i]
		if f.written.IsZero() {
			continue
		}
		// The wall clock goes on while a machine sleeps, the monotonic one is not set back.
		if age := max(now.Sub(f.written), now.Round(0).Sub(f.written.Round(0))); age > limit {
			return fmt.Errorf("%w: %s %s ago", ErrFilesTooOld, f.Path, age)
		}
	}
	return nil
}

func (t *Table) lost(version int64, winner *delta.Commit) error {
	if t.Snapshot() == nil {
		return nil
	}
	return t.apply(version, winner)
}

// keepTrying repeats f while its error is of a kind that passes.
func (t *Table) keepTrying(ctx context.Context, f func() error) error {
	for try := 1; ; try++ {
		err := f()
		if err == nil || ctx.Err() != nil || !objstore.Retryable(err) {
			return err
		}
		if werr := t.opt.wait(ctx, try); werr != nil {
			return fmt.Errorf("%w: %w", werr, err)
		}
	}
}
