package app

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"time"

	"go.temporal.io/api/enums/v1"
	"go.temporal.io/api/serviceerror"
	"go.temporal.io/sdk/client"
	"go.temporal.io/sdk/temporal"

	"github.com/tidemill/tidemill/workflows"
)

// schedules keeps the maintenance schedules of one project as its settings have them.
type schedules struct {
	client  client.ScheduleClient
	queue   string
	project string
	every   time.Duration // 0: no schedules
	log     *slog.Logger
}

// set makes or updates a schedule per table and removes those of tables that are not
// there any more. What a person has done to a schedule by hand, a pause and its note,
// stays; its times and its action are the project's.
func (s *schedules) set(ctx context.Context, tables []string) error {
	want := map[string]bool{}
	if s.every > 0 {
		for _, t := range tables {
			want[workflows.MaintainID(s.project, t)] = true
			if err := s.put(ctx, t); err != nil {
				return fmt.Errorf("maintenance schedule of %s: %w; maintenance: {every: off} in tidemill.yaml does without", t, plain(err))
			}
		}
	}
	// What cannot be removed does no harm: what it starts says that there is no contract.
	if err := s.remove(ctx, want); err != nil {
		s.log.Warn("schedules that are not needed any more may be left over", "error", err)
	}
	return nil
}

func (s *schedules) put(ctx context.Context, table string) error {
	id := workflows.MaintainID(s.project, table)
	spec := client.ScheduleSpec{Intervals: []client.ScheduleIntervalSpec{{Every: s.every, Offset: s.offset(table)}}}
	action := &client.ScheduleWorkflowAction{
		ID: id, Workflow: "Maintain", Args: []any{workflows.MaintainInput{Project: s.project, Table: table}}, TaskQueue: s.queue,
		StaticSummary: workflows.MaintainSummary(s.project, table),
	}
	// What was missed while the server was away is not made up for: the next run does it.
	window := max(s.every, 10*time.Second)
	update := func(in client.ScheduleUpdateInput) (*client.ScheduleUpdate, error) {
		have := in.Description.Schedule
		have.Spec, have.Action = &spec, action
		have.Policy = &client.SchedulePolicies{Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: window}
		return &client.ScheduleUpdate{Schedule: &have}, nil
	}
	for {
		err := s.client.GetHandle(ctx, id).Update(ctx, client.ScheduleUpdateOptions{DoUpdate: update})
		var none *serviceerror.NotFound
		if !errors.As(err, &none) {
			return err
		}
		_, err = s.client.Create(ctx, client.ScheduleOptions{
			ID: id, Spec: spec, Action: action, Overlap: enums.SCHEDULE_OVERLAP_POLICY_SKIP, CatchupWindow: window,
			TypedSearchAttributes: temporal.NewSearchAttributes(workflows.AttributeTable.ValueSet(table)),
		})
		if !errors.Is(err, temporal.ErrScheduleAlreadyRunning) { // else another worker was first
			return err
		}
	}
}

// offset spreads the tables over the interval, the same way at every start.
func (s *schedules) offset(table string) time.Duration {
	h := fnv.New32a()
	_, _ = h.Write([]byte(table))
	return time.Duration(uint64(s.every) / (1 << 16) * uint64(h.Sum32()>>16)).Truncate(time.Second)
}

func (s *schedules) remove(ctx context.Context, want map[string]bool) error {
	list, err := s.client.List(ctx, client.ScheduleListOptions{PageSize: 100})
	if err != nil {
		return err
	}
	for list.HasNext() {
		e, err := list.Next()
		if err != nil {
			return err
		}
		if _, ours := workflows.MaintainSchedule(s.project, e.ID); !ours || want[e.ID] {
			continue
		}
		err = s.client.GetHandle(ctx, e.ID).Delete(ctx)
		var gone *serviceerror.NotFound
		if err != nil && !errors.As(err, &gone) {
			return err
		}
	}
	return nil
}
