package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/tidemill/tidemill/internal/app"
)

func newStatus(g *global) *cobra.Command {
	var address string
	cmd := &cobra.Command{
		Use:   "status [DIR]",
		Short: "What runs: generation, connectors, tables, their pipelines and sinks, and the last edit that was refused",
		Long: `Asks the process that runs the project: a running dev or demo, else what answers at
http: {address} of tidemill.yaml, else --address.`,
		Example: `  tidemill status shop
  tidemill status shop --json
  tidemill status --address 10.0.0.7:4195`,
		Args: args(cobra.MaximumNArgs(1)),
		RunE: func(cmd *cobra.Command, a []string) error {
			s, err := app.AskStatus(cmd.Context(), g.project(a), address)
			if err != nil {
				return err
			}
			out := cmd.OutOrStdout()
			if g.json {
				return json.NewEncoder(out).Encode(s)
			}
			for i, p := range s.Projects {
				if i > 0 {
					fmt.Fprintln(out)
				}
				if err := showProject(out, p); err != nil {
					return err
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&address, "address", "", "host:port of the process to ask")
	return cmd
}

func showProject(out io.Writer, p app.ProjectStatus) error {
	fmt.Fprintf(out, "%s  generation %d, for %s  (%s)\n", p.Project, p.Generation, ago(p.Since), strings.Join(p.Roles, ", "))
	if len(p.Waits) > 0 {
		fmt.Fprintf(out, "waits for a restart of the process: %s\n", strings.Join(p.Waits, ", "))
	}
	if p.Refused != nil {
		fmt.Fprintf(out, "\nedit refused %s ago; generation %d goes on:\n", ago(p.Refused.At), p.Generation)
		for _, q := range p.Refused.Problems {
			fmt.Fprintf(out, "  %s\n", q.Error())
		}
	}
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "\nCONNECTOR\tTABLE\tINPUT\tSTATE\tFOR\tLANDED\tQUARANTINED\tLAST COMMIT\tLAST ERROR")
	for _, c := range p.Connectors {
		last := "-"
		if c.LastCommit != nil {
			last = ago(*c.LastCommit) + " ago"
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%d\t%s\t%s\n", c.Name, c.Table, c.Input, c.State, ago(c.Since), c.Landed, c.Quarantined, last, oneLine(c.Error))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintln(w, "\nTABLE\tVERSION\tSCORED\tBACKLOG\tROWS\tSCORED ROWS\tQUARANTINED\tPIPELINE\tMODEL\tERROR")
	for _, t := range p.Tables {
		model := "-"
		if t.Model != "" {
			model = fmt.Sprintf("%s@%d", t.Model, t.ModelVersion)
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s\n", t.Name, version0(t.Landed), version0(t.Scored), t.Backlog, t.Rows, t.ScoredRows, t.Quarantined, t.Doing, model, oneLine(t.Error))
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return showSinks(out, p)
}

func showSinks(out io.Writer, p app.ProjectStatus) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	head := "\nSINK\tTABLE\tOUTPUT\tSTATE\tSENT UP TO\tBEHIND\tROWS BEHIND\tSENT\tREFUSED\tPROCESS\tGENERATION\tLAST ERROR\n"
	for _, t := range p.Tables {
		for _, s := range t.Sinks {
			fmt.Fprint(w, head)
			head = ""
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%d\t%s\t%d\t%d\t%s\t%s\t%s\n", s.Name, t.Name, s.Output, s.State, version0(s.Version), s.Behind, version0(s.BehindRows),
				s.Sent, s.Refused, sinkProcess(s), version0(s.Generation), oneLine(s.Error))
		}
	}
	return w.Flush()
}

// sinkProcess says where a sink is at work, and whether that process still gives signs of
// life, which it does every few seconds.
func sinkProcess(s app.SinkStatus) string {
	switch {
	case s.Process == "" || s.State == "not running":
		return "-"
	case s.Here:
		return "this one"
	case s.Seen != nil && time.Since(*s.Seen) > 10*time.Second:
		return fmt.Sprintf("%s, silent for %s", s.Process, ago(*s.Seen))
	}
	return s.Process
}

// version0 is a table's version, or a dash when there is no table.
func version0(v int64) string {
	if v < 0 {
		return "-"
	}
	return fmt.Sprint(v)
}

func ago(t time.Time) string {
	d := time.Since(t)
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", int(d.Minutes()), int(d.Seconds())%60)
	}
	return fmt.Sprintf("%dh%dm", int(d.Hours()), int(d.Minutes())%60)
}

// oneLine cuts a text so that it fits into a table.
func oneLine(text string) string {
	text, _, more := strings.Cut(text, "\n")
	if r := []rune(text); len(r) > 100 {
		text, more = string(r[:100]), true
	}
	if more {
		text += " …"
	}
	if text == "" {
		return "-"
	}
	return text
}
