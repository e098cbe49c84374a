package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
	"github.com/tidemill/tidemill/internal/problem"
)

func newPlan(g *global) *cobra.Command {
	var o app.PlanOptions
	cmd := &cobra.Command{
		Use:   "plan [DIR]",
		Short: "What the project's files would change or break of what runs, tried on recent rows; nothing is written",
		Long: `Compares the files with what a running dev or run has taken in, and with the tables
that there are, and takes each changed table's last rows through the new contract: decode,
checks, features and score. Ends with 1 when the tables refuse a change, or rows fail that
pass today.`,
		Example: `  tidemill plan shop
  tidemill plan shop-edited --running shop   # a copy, while dev follows shop itself
  tidemill plan shop -n 10000 --json`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			log, err := g.logger()
			if err != nil {
				return err
			}
			o.Dir, o.Logger = g.project(a), log
			p, err := app.PlanOf(cmd.Context(), o)
			out := cmd.OutOrStdout()
			if ps := problem.Of(err); ps != nil && g.json {
				if jerr := json.NewEncoder(out).Encode(map[string]any{"problems": ps.Scrubbed()}); jerr != nil {
					return jerr
				}
			}
			if err != nil {
				return err
			}
			if g.json {
				if err := json.NewEncoder(out).Encode(p); err != nil {
					return err
				}
			} else {
				showPlan(out, p)
			}
			if p.Breaks {
				return errors.New("the edit breaks something")
			}
			return nil
		},
	}
	cmd.Flags().IntVarP(&o.Rows, "rows", "n", 1000, "how many of each changed table's last rows are tried")
	cmd.Flags().StringVar(&o.Running, "running", "", "directory of the project as it runs, where DIR is an edited copy of it")
	cmd.Flags().StringVar(&o.Address, "address", "", "host:port of the process to compare with")
	return cmd
}

func showPlan(out io.Writer, p app.Plan) {
	fmt.Fprintf(out, "%s, compared with %s\n", p.Project, p.Against)
	if len(p.Connectors)+len(p.Tables)+len(p.Models) == 0 {
		fmt.Fprintln(out, "nothing would change")
		return
	}
	for _, c := range p.Connectors {
		fmt.Fprintf(out, "\nconnector %s: %s, %s\n", c.Name, c.Change, c.Why)
	}
	for _, m := range p.Models {
		fmt.Fprintf(out, "\nmodel %s: is registered\n", m)
	}
	for _, t := range p.Tables {
		showPlannedTable(out, t)
	}
}

func showPlannedTable(out io.Writer, t app.PlannedTable) {
	switch t.Change {
	case "unknown":
		fmt.Fprintf(out, "\ntable %s\n", t.Name)
	default:
		fmt.Fprintf(out, "\ntable %s: %s\n", t.Name, t.Change)
	}
	for _, d := range t.Contract {
		switch d.Change {
		case "added":
			fmt.Fprintf(out, "  + %s %s\n", d.Field, d.To)
		case "removed":
			fmt.Fprintf(out, "  - %s %s\n", d.Field, d.From)
		default:
			fmt.Fprintf(out, "  ~ %s %s → %s\n", d.Field, d.From, d.To)
		}
	}
	for _, c := range t.Adds {
		fmt.Fprintf(out, "  the tables get the column %s, null in the rows that are there\n", c)
	}
	for _, q := range t.Refused {
		fmt.Fprintf(out, "  refused: %s\n", q.Error())
	}
	if t.Note != "" {
		fmt.Fprintf(out, "  %s\n", t.Note)
	}
	if t.Replay == nil {
		return
	}
	r := t.Replay
	with := ""
	if r.Model != "" {
		with = ", scored by " + r.Model
	}
	if len(r.Rules) == 0 {
		fmt.Fprintf(out, "  of %d recent rows all would pass%s\n", r.Rows, with)
	}
	for _, o := range r.Rules {
		what := "be quarantined by"
		if o.Warns {
			what = "be warned of by"
		}
		before := ""
		if r.Compare {
			before = fmt.Sprintf(", %d before", o.Before)
		}
		fmt.Fprintf(out, "  of %d recent rows %d would now %s %s%s%s\n", r.Rows, o.Now, what, o.Rule, before, with)
		if o.Example != "" && o.Now > o.Before {
			fmt.Fprintf(out, "      such as: %s\n", o.Example)
		}
	}
}
