package lakehouse

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strconv"
	"sync"
	"time"

	"github.com/tidemill/tidemill/lakehouse/checkpoint"
	"github.com/tidemill/tidemill/lakehouse/delta"
)

const hintKey = logDir + "_last_checkpoint"

func checkpointKey(version int64) string {
	return fmt.Sprintf("%s%020d.checkpoint.parquet", logDir, version)
}

// hint is what _last_checkpoint says; it may be behind, or wrong.
type hint struct {
	version int64 // -1: nothing
	adds    int64 // -1: it does not say
}

// readHint reads _last_checkpoint. Whatever is wrong with it, the log itself can be listed.
func (t *Table) readHint(ctx context.Context) hint {
	none := hint{-1, -1}
	data, err := t.store.Get(ctx, hintKey)
	if errors.Is(err, fs.ErrNotExist) {
		return none
	}
	var h checkpoint.Hint
	if err == nil {
		h, err = checkpoint.DecodeHint(data)
	}
	if err != nil {
		t.opt.logger.WarnContext(ctx, "_last_checkpoint cannot be read; the log is listed instead", slog.String("table", t.root), slog.Any("error", err))
		return none
	}
	out := hint{h.Version, -1}
	if h.NumOfAddFiles != nil {
		out.adds = *h.NumOfAddFiles
	}
	return out
}

// checkpointMark is the newest checkpoint that a Table knows of.
type checkpointMark struct {
	version int64     // -1: none
	at      time.Time // when it was written or found
}

// readCheckpoint makes the snapshot that a checkpoint holds, and checks it against what
// it says of itself, or what the hint says of it.
func (t *Table) readCheckpoint(ctx context.Context, h *history, ref checkpointRef, hint hint) error {
	b, state, err := t.loadCheckpoint(ctx, h, ref)
	if err != nil {
		return err
	}
	if state == nil && hint.version == ref.version && hint.adds >= 0 && hint.adds != int64(b.s.files) {
		return damagedCheckpoint(ref.keys[0], fmt.Errorf("_last_checkpoint says that it has %d files, and it has %d", hint.adds, b.s.files))
	}
	b.s.time = ref.time.UTC()
	if c, err := t.readCommit(ctx, ref.version); err == nil { // it says it better than the object's time
		b.s.time = commitTime(c, time.UnixMilli(0).UTC())
	}
	h.snap = b.s
	return nil
}

// checkCheckpoint reads a checkpoint and says whether it is one of ours, which know
// themselves whether they are whole.
func (t *Table) checkCheckpoint(ctx context.Context, h *history, ref checkpointRef) (own bool, err error) {
	_, state, err := t.loadCheckpoint(ctx, h, ref)
	return state != nil, err
}

func (t *Table) loadCheckpoint(ctx context.Context, h *history, ref checkpointRef) (*checkpointLoader, *checkpoint.State, error) {
	b := &checkpointLoader{h: h, s: &Snapshot{version: ref.version}, version: ref.version}
	var state *checkpoint.State
	for _, key := range ref.keys {
		data, err := t.store.Get(ctx, key)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil, fmt.Errorf("%s: %w", key, errMissing)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read checkpoint: %w", err)
		}
		st, err := checkpoint.Decode(ctx, data, checkpoint.Visitor{Protocol: b.protocol, Metadata: b.metadata, Txn: b.txn, Add: b.add})
		if err != nil {
			return nil, nil, damagedCheckpoint(key, err)
		}
		if state == nil {
			state = st
		}
	}
	if b.proto == nil || b.meta == nil {
		return nil, nil, damagedCheckpoint(ref.keys[0], errors.New("it has no protocol or no metaData"))
	}
	meta, err := nextMetadata(nil, &delta.Commit{Protocol: b.proto, Metadata: b.meta})
	if err != nil {
		return nil, nil, err
	}
	if have := b.state(); state != nil && *state != have {
		return nil, nil, damagedCheckpoint(ref.keys[0], fmt.Errorf("it says of itself that it has %+v, and has %+v", *state, have))
	}
	b.s.meta, b.s.txns = meta, txnMap{base: b.txns}
	return b, state, nil
}

func damagedCheckpoint(key string, err error) error {
	var unsupported *delta.UnsupportedError
	if err == nil || errors.As(err, &unsupported) {
		return err
	}
	return &DamagedError{Object: key, Reason: "is not a checkpoint of its version", Err: err,
		Advice: "delete it if an older checkpoint or all commits from 0 on are there; else " + restoreObject}
}

// checkpointLoader takes in a checkpoint's actions.
type checkpointLoader struct {
	h       *history
	s       *Snapshot
	version int64
	proto   *delta.Protocol
	meta    *delta.Metadata
	txns    map[string]delta.Txn
	digest  checkpoint.Digest
}

func (b *checkpointLoader) protocol(p delta.Protocol) error { b.proto = &p; return nil }
func (b *checkpointLoader) metadata(m delta.Metadata) error { b.meta = &m; return nil }

func (b *checkpointLoader) txn(x delta.Txn) error {
	if b.txns == nil {
		b.txns = map[string]delta.Txn{}
	}
	if _, twice := b.txns[x.AppID]; twice {
		return fmt.Errorf("txn %q stands in it twice", x.AppID)
	}
	b.txns[x.AppID] = x
	b.digest.AddTxn(x.AppID, x.Version)
	return nil
}

func (b *checkpointLoader) add(a delta.Add) error {
	f, err := fileOf(a, b.version)
	if err != nil {
		return err
	}
	if _, twice := b.h.live[f.Path]; twice {
		return fmt.Errorf("file %q stands in it twice", a.Path)
	}
	e := &entry{File: f}
	b.s.entries = append(b.s.entries, e)
	b.h.live[f.Path] = e
	b.s.files, b.s.rows, b.s.bytes = b.s.files+1, b.s.rows+max(f.Rows, 0), b.s.bytes+f.Size
	b.digest.AddFile(a.Path, a.Size)
	return nil
}

func (b *checkpointLoader) state() checkpoint.State {
	return checkpoint.State{Version: b.version, Files: int64(b.s.files), Bytes: b.s.bytes, Txns: int64(len(b.txns)), Digest: b.digest.String()}
}

// Checkpointed says what Checkpoint did.
type Checkpointed struct {
	Version    int64 // of the newest checkpoint now
	Written    bool  // false: it was there already
	Files      int64
	Tombstones int64
	Bytes      int64
}

// one checkpoint at a time is made in a process, which bounds what it costs.
var checkpointing = make(chan struct{}, 1)

// Checkpoint writes the newest version that is known as one object, so that readers need
// not read the log from its beginning, and then points _last_checkpoint to it. It costs
// the size of the table's state and is never part of a commit.
//
// Tombstones are not kept in memory. They are carried over from the checkpoint before,
// with those of the commits since, until their files have been vacuumed.
func (t *Table) Checkpoint(ctx context.Context) (Checkpointed, error) {
	select {
	case checkpointing <- struct{}{}:
		defer func() { <-checkpointing }()
	case <-ctx.Done():
		return Checkpointed{}, ctx.Err()
	}
	out, err := t.writeCheckpoint(ctx, t.Snapshot())
	if err != nil {
		return out, fmt.Errorf("checkpoint table %s: %w", t.root, err)
	}
	return out, nil
}

func (t *Table) writeCheckpoint(ctx context.Context, s *Snapshot) (Checkpointed, error) {
	if err := s.meta.unwritable; err != nil {
		return Checkpointed{}, err
	}
	now := t.readHint(ctx)
	if now.version >= s.version {
		t.marked(now.version)
		return Checkpointed{Version: now.version}, nil
	}
	st, err := t.readMaintenance(ctx)
	if err != nil {
		return Checkpointed{}, err
	}
	data, info, err := t.encodeCheckpoint(ctx, s, st)
	if err != nil {
		return Checkpointed{}, err
	}
	t.fault("checkpoint-encoded")
	if err := t.store.Put(ctx, checkpointKey(s.version), data); err != nil {
		return Checkpointed{}, err
	}
	t.fault("checkpoint-put")
	size, adds := int64(len(data)), info.Adds
	h := checkpoint.EncodeHint(checkpoint.Hint{Version: s.version, Size: info.Actions, SizeInBytes: &size, NumOfAddFiles: &adds})
	// Never back: another process may have written a newer one in the meantime.
	if at := t.readHint(ctx); at.version < s.version {
		if err := t.store.Put(ctx, hintKey, h); err != nil {
			return Checkpointed{}, err
		}
	}
	t.fault("hint-put")
	t.marked(s.version)
	st.noteCheckpoint(s.version, t.opt.now())
	if err := t.thinCheckpoints(ctx, st); err != nil {
		t.opt.logger.WarnContext(ctx, "old checkpoints are left for the next time", slog.String("table", t.root), slog.Any("error", err))
	}
	return Checkpointed{Version: s.version, Written: true, Files: info.Adds, Tombstones: info.Removes, Bytes: size}, nil
}

func (t *Table) marked(version int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if version >= t.checkpoint.version {
		t.checkpoint = checkpointMark{version, t.opt.now()}
	}
}

func (t *Table) encodeCheckpoint(ctx context.Context, s *Snapshot, st *maintenance) ([]byte, checkpoint.Info, error) {
	var digest checkpoint.Digest
	var info checkpoint.Info
	e := checkpoint.NewEncoder()
	if err := errors.Join(e.Protocol(s.meta.protocol), e.Metadata(s.meta.Metadata)); err != nil {
		return nil, info, err
	}
	txns := int64(0)
	for x := range s.Txns() {
		digest.AddTxn(x.AppID, x.Version)
		txns++
		if err := e.Txn(x); err != nil {
			return nil, info, err
		}
	}
	live := make(map[string]struct{}, s.files)
	for f := range s.Files() {
		a := f.add(false)
		digest.AddFile(a.Path, a.Size)
		live[f.Path] = struct{}{}
		if err := e.Add(a); err != nil {
			return nil, info, err
		}
	}
	keep := st.tombstoneCutoff(t.opt.now(), tombstoneRetention(s))
	err := t.tombstones(ctx, s, live, func(r delta.Remove) error {
		if r.DeletionTimestamp < keep {
			return nil
		}
		r.DataChange = false
		return e.Remove(r)
	})
	if err != nil {
		return nil, info, err
	}
	return e.Finish(checkpoint.State{Version: s.version, Files: int64(s.files), Bytes: s.bytes, Txns: txns, Digest: digest.String()})
}

// tombstones yields the removes of files that a snapshot does not have any more, each
// once: those of the newest checkpoint before it, and those of the commits after that.
//
// A checkpoint that is damaged is passed over for an older one. When none is left, what
// the commits say has to do: a new checkpoint makes the table whole again, and files
// whose tombstones were lost are found as orphans.
func (t *Table) tombstones(ctx context.Context, s *Snapshot, live map[string]struct{}, yield func(delta.Remove) error) error {
	l, err := t.list(ctx, t.readHint(ctx).version)
	if err == nil && l.upTo(s.version) == nil {
		l, err = t.list(ctx, -1)
	}
	if err != nil {
		return err
	}
	refs := append([]checkpointRef{{version: l.lowest() - 1}}, l.upTo(s.version)...)
	for i := len(refs) - 1; i >= 0; i-- {
		err = t.tombstonesFrom(ctx, refs[i], s, live, yield)
		var damaged *DamagedError
		if !errors.As(err, &damaged) {
			return err
		}
		t.opt.logger.WarnContext(ctx, "checkpoint passed over", slog.String("table", t.root), slog.Int64("version", refs[i].version), slog.Any("error", err))
	}
	return err
}

func (t *Table) tombstonesFrom(ctx context.Context, ref checkpointRef, s *Snapshot, live map[string]struct{}, yield func(delta.Remove) error) error {
	parts := make([][]byte, len(ref.keys))
	for i, key := range ref.keys { // all of it before the first is yielded
		data, err := t.store.Get(ctx, key)
		if err == nil {
			_, err = checkpoint.Decode(ctx, data, checkpoint.Visitor{Remove: func(delta.Remove) error { return nil }})
			err = damagedCheckpoint(key, err)
		}
		if err != nil {
			return fmt.Errorf("read checkpoint: %w", err)
		}
		parts[i] = data
	}
	latest, err := t.removesAfter(ctx, ref.version, s)
	if err != nil {
		return err
	}
	each := func(r delta.Remove) error {
		path, err := delta.DecodePath(r.Path)
		if err != nil {
			return err
		}
		if _, there := live[path]; there {
			return nil
		}
		return yield(r)
	}
	for _, data := range parts {
		_, err := checkpoint.Decode(ctx, data, checkpoint.Visitor{Remove: func(r delta.Remove) error {
			if _, newer := latest[r.Path]; newer {
				return nil
			}
			return each(r)
		}})
		if err != nil {
			return err
		}
	}
	for _, r := range latest {
		if err := each(r); err != nil {
			return err
		}
	}
	return nil
}

// removesAfter returns the latest remove of each path in the commits after a version.
func (t *Table) removesAfter(ctx context.Context, after int64, s *Snapshot) (map[string]delta.Remove, error) {
	latest := map[string]delta.Remove{}
	note := func(removes []delta.Remove) {
		for _, r := range removes {
			latest[r.Path] = r
		}
	}
	known := t.recent(after, s.version)
	if int64(len(known)) == s.version-after {
		for i := range known {
			note(known[i].removes)
		}
		return latest, nil
	}
	err := t.replay(ctx, after+1, s.version, func(_ int64, c *delta.Commit) error {
		note(c.Removes)
		return nil
	})
	return latest, err
}

// autoCheckpoint says when a Table writes checkpoints by itself.
type autoCheckpoint struct {
	off     bool
	mu      sync.Mutex
	running bool          // guarded by mu
	again   time.Time     // guarded by mu; not before, after a failure
	done    chan struct{} // guarded by mu; closed when running ends
}

const (
	// checkpointAge is how old the newest checkpoint may be while there are commits.
	checkpointAge = time.Minute
	// checkpointRetry is the pause after one that failed.
	checkpointRetry = 5 * time.Second
)

// defaultCheckpointInterval is Delta's own, for tables that do not say.
const defaultCheckpointInterval = 10

// maybeCheckpoint writes a checkpoint in the background when it is due after a commit.
func (t *Table) maybeCheckpoint() {
	if t.auto.off {
		return
	}
	t.mu.Lock()
	s, mark := t.history.snap, t.checkpoint
	due := s.version-mark.version >= checkpointInterval(s) || t.opt.now().Sub(mark.at) >= checkpointAge
	t.mu.Unlock()
	if !due {
		return
	}
	t.auto.mu.Lock()
	defer t.auto.mu.Unlock()
	if t.auto.running || t.opt.now().Before(t.auto.again) {
		return
	}
	t.auto.running, t.auto.done = true, make(chan struct{})
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), checkpointAge)
		defer cancel()
		_, err := t.Checkpoint(ctx)
		t.auto.mu.Lock()
		defer t.auto.mu.Unlock()
		if err != nil {
			t.opt.logger.WarnContext(ctx, "checkpoint failed; it is tried again later", slog.String("table", t.root), slog.Any("error", err))
			t.auto.again = t.opt.now().Add(checkpointRetry)
		}
		t.auto.running = false
		close(t.auto.done)
	}()
}

func checkpointInterval(s *Snapshot) int64 {
	if n, err := strconv.ParseInt(s.Configuration()["delta.checkpointInterval"], 10, 64); err == nil && n > 0 {
		return n
	}
	return defaultCheckpointInterval
}

// Close waits for a checkpoint that is being written in the background. The Table can
// still be used.
func (t *Table) Close(ctx context.Context) error {
	t.auto.mu.Lock()
	done := t.auto.done
	t.auto.mu.Unlock()
	if done == nil {
		return nil
	}
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
