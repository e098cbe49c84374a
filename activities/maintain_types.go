package activities

import "time"

// Steps of maintenance, in the order in which they are done.
const (
	StepExpire     = "expire"     // rows older than the contract's retention go
	StepCompact    = "compact"    // small files are joined and sorted
	StepCheckpoint = "checkpoint" // the log's state is written as one object
	StepClean      = "clean"      // commits that nobody needs go
	StepVacuum     = "vacuum"     // files that nothing names go
)

// MaintainSteps are all of them.
func MaintainSteps() []string {
	return []string{StepExpire, StepCompact, StepCheckpoint, StepClean, StepVacuum}
}

// MaintainInput asks what there is to do for the tables of one contract.
type MaintainInput struct {
	Table string   `json:"table"`           // the contract's
	Only  string   `json:"only,omitempty"`  // one of its tables; all by default
	Steps []string `json:"steps,omitempty"` // all by default
	// Orphans asks for the search for files that nothing names, whenever the last was.
	Orphans bool `json:"orphans,omitempty"`
	DryRun  bool `json:"dry_run,omitempty"` // count, and change nothing
}

// TableSize is a table's newest version.
type TableSize struct {
	Version int64 `json:"version"`
	Files   int64 `json:"files"`
	Bytes   int64 `json:"bytes"`
	Rows    int64 `json:"rows"`
}

// MaintainPlan is what there is to do.
type MaintainPlan struct {
	Tables []PlannedTable `json:"tables"` // those that exist, in the order to take them
}

// PlannedTable is one table's part of a plan.
type PlannedTable struct {
	Table string        `json:"table"`
	Size  TableSize     `json:"size"`
	Steps []PlannedStep `json:"steps"`
}

// PlannedStep is one step of a table, or why it is not taken.
type PlannedStep struct {
	Step    string `json:"step"`
	Orphans bool   `json:"orphans,omitempty"` // of a vacuum
	Skip    string `json:"skip,omitempty"`
}

// StepInput asks for one step of one table.
type StepInput struct {
	Contract string `json:"contract"` // whose table it is
	Table    string `json:"table"`
	Orphans  bool   `json:"orphans,omitempty"`
	DryRun   bool   `json:"dry_run,omitempty"`
}

// StepResult says what a step did, or in a dry run would do. An attempt whose worker was
// killed is not counted.
type StepResult struct {
	Size   TableSize     `json:"size"` // afterwards
	Counts Counts        `json:"counts"`
	Took   time.Duration `json:"took_ns"` // of the last attempt, without waiting for its turn
}

// Counts are what maintenance has done.
type Counts struct {
	RowsExpired    int64 `json:"rows_expired,omitempty"`
	FilesExpired   int64 `json:"files_expired,omitempty"`   // removed whole
	FilesRewritten int64 `json:"files_rewritten,omitempty"` // since some of their rows expired
	FilesJoined    int64 `json:"files_joined,omitempty"`
	FilesMade      int64 `json:"files_made,omitempty"` // of those joined
	BytesJoined    int64 `json:"bytes_joined,omitempty"`
	BytesMade      int64 `json:"bytes_made,omitempty"`
	Checkpoints    int64 `json:"checkpoints,omitempty"`     // written
	Versions       int64 `json:"versions,omitempty"`        // commits deleted from the log
	OldCheckpoints int64 `json:"old_checkpoints,omitempty"` // deleted from the log
	LogCommits     int64 `json:"log_commits,omitempty"`     // left in the log; by clean only
	Vacuumed       int64 `json:"vacuumed,omitempty"`        // files deleted that had been taken out of the table
	Orphans        int64 `json:"orphans,omitempty"`         // files deleted that were never in it
	BytesFreed     int64 `json:"bytes_freed,omitempty"`     // by deleting them
}

// Add adds what another step or attempt did.
func (c *Counts) Add(o Counts) {
	c.RowsExpired += o.RowsExpired
	c.FilesExpired += o.FilesExpired
	c.FilesRewritten += o.FilesRewritten
	c.FilesJoined += o.FilesJoined
	c.FilesMade += o.FilesMade
	c.BytesJoined += o.BytesJoined
	c.BytesMade += o.BytesMade
	c.Checkpoints += o.Checkpoints
	c.Versions += o.Versions
	c.OldCheckpoints += o.OldCheckpoints
	c.Vacuumed += o.Vacuumed
	c.Orphans += o.Orphans
	c.BytesFreed += o.BytesFreed
	if o.LogCommits > 0 {
		c.LogCommits = o.LogCommits
	}
}

// StepProgress is what a step's heartbeats carry. A retry goes on from it: what earlier
// attempts did is in the table, and counted here.
type StepProgress struct {
	Doing   string `json:"doing"` // "waiting for another step", or the step
	Done    int64  `json:"done"`
	Total   int64  `json:"total,omitempty"` // 0: not known
	Earlier Counts `json:"earlier"`         // by attempts that failed
}

// Maintained is what Options.Maintained is told of every step.
type Maintained struct {
	Table, Step string
	Result      StepResult
	Err         error
}
