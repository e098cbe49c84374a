package app

import "context"

// Checked is what a look at all of a table found.
type Checked struct {
	Name        string         `json:"name"`
	Version     int64          `json:"version"`
	Commits     int            `json:"commits"`
	Checkpoints int            `json:"checkpoints"`
	Files       int            `json:"files"`
	Problems    []TableProblem `json:"problems"`
}

// TableProblem is something about a table that is not as it should be.
type TableProblem struct {
	Object   string `json:"object"` // below the table's location
	Message  string `json:"message"`
	Advice   string `json:"advice,omitempty"`
	Harmless bool   `json:"harmless"` // the newest version is whole
}

// Check looks at everything that the table is made of, and changes nothing.
func (t *Table) Check(ctx context.Context) (Checked, error) {
	v, err := t.table.Verify(ctx)
	if err != nil {
		return Checked{}, err
	}
	out := Checked{Name: t.name, Version: v.Version, Commits: v.Commits, Checkpoints: v.Checkpoints, Files: v.Files, Problems: []TableProblem{}}
	for _, p := range v.Problems {
		out.Problems = append(out.Problems, TableProblem(p))
	}
	return out, nil
}
