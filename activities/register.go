package activities

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/quality"
)

// InspectModel reads a candidate, keeps a copy that no edit of the file can
// change while it is being checked, and finds the contracts it must fit.
func (a *Activities) InspectModel(ctx context.Context, in Candidate) (Inspected, error) {
	stop := heartbeats(ctx)
	defer stop()
	data, err := a.readFile(ctx, in.File)
	if err != nil {
		return Inspected{}, err
	}
	graph, err := models.Inspect(data)
	if err != nil {
		return Inspected{}, Permanent(ErrTypeModel, fmt.Errorf("%s: %w", in.File, err))
	}
	sum := sha256.Sum256(data)
	out := Inspected{SHA256: hex.EncodeToString(sum[:]), Bytes: int64(len(data)), Signature: signature(graph.Signature)}
	if out.Upload, err = a.o.Files.Upload(ctx, data, out.SHA256); err != nil {
		return Inspected{}, err
	}
	tables, err := a.contractsOf(in)
	if err != nil {
		return Inspected{}, err
	}
	for _, c := range tables {
		out.Tables = append(out.Tables, c.Name())
	}
	return out, nil
}

// GateModel puts a candidate through the gate. A check that fails is
// ErrTypeModel with every finding; a contract whose SQL is wrong ErrTypeContract.
func (a *Activities) GateModel(ctx context.Context, in GateInput) ([]Check, error) {
	stop := heartbeats(ctx)
	defer stop()
	data, err := a.uploaded(ctx, in.Inspected)
	if err != nil {
		return nil, err
	}
	tables, err := a.contractsOf(in.Candidate)
	if err != nil {
		return nil, err
	}
	spec := models.GateSpec{}
	if spec.Golden, err = a.golden(ctx, in.Candidate.File); err != nil {
		return nil, err
	}
	for _, c := range tables {
		plan, err := quality.Compile(ctx, a.o.Engine, c, workSchema(c, nil))
		if err != nil {
			return nil, Permanent(ErrTypeContract, err)
		}
		t := models.GateTable{Score: c.Score(), Schema: plan.Columns(), Problem: c.Problem}
		scored, err := a.o.Tables.Open(ctx, c.Name()+Suffix)
		switch {
		case err == nil:
			t.Scored = scored.Snapshot().Schema()
		case !errors.Is(err, fs.ErrNotExist):
			return nil, err
		}
		spec.Tables = append(spec.Tables, t)
	}
	results, err := models.Gate{Runtime: a.o.Runtime}.Check(ctx, data, spec)
	if errors.Is(err, models.ErrRuntime) {
		return nil, Permanent(ErrTypeModel, err)
	}
	if err != nil {
		return nil, err
	}
	if err := models.Failed(results); err != nil {
		return nil, Permanent(ErrTypeModel, fmt.Errorf("%s: %w", in.Candidate.File, err))
	}
	checks := make([]Check, len(results))
	for i, r := range results {
		checks[i] = Check{Name: r.Check, Detail: r.Detail}
	}
	return checks, nil
}

// PublishModel makes a checked candidate a version. The same bytes again give
// the version they already have.
func (a *Activities) PublishModel(ctx context.Context, in PublishInput) (Published, error) {
	stop := heartbeats(ctx)
	defer stop()
	data, err := a.uploaded(ctx, in.Inspected)
	if err != nil {
		return Published{}, err
	}
	passed := make([]models.GateResult, len(in.Checks))
	for i, c := range in.Checks {
		passed[i] = models.GateResult{Check: c.Name, Detail: c.Detail, Passed: true}
	}
	v, err := a.o.Models.Register(ctx, models.Candidate{Name: in.Candidate.Name, Data: data, Source: in.Candidate.File}, passed)
	if err != nil {
		return Published{}, err
	}
	return Published{Name: v.Name, Version: int64(v.Version), SHA256: v.SHA256}, nil
}

// MoveAlias moves an alias to a version from wherever it is now.
func (a *Activities) MoveAlias(ctx context.Context, in AliasInput) error {
	stop := heartbeats(ctx)
	defer stop()
	expect := 0
	v, err := a.o.Models.Resolve(ctx, in.Name+"@"+in.Alias)
	switch {
	case err == nil:
		expect = v.Version
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	return a.o.Models.SetAlias(ctx, in.Name, in.Alias, int(in.Version), expect)
}

// contractsOf are the contracts that a candidate must fit.
func (a *Activities) contractsOf(in Candidate) (out []*contract.Table, err error) {
	a.mu.Lock()
	contracts := a.contracts
	a.mu.Unlock()
	for _, c := range contracts {
		if in.Table != "" && c.Name() != in.Table {
			continue
		}
		score := c.Score()
		if score == nil {
			if in.Table != "" {
				return nil, Permanent(ErrTypeInput, fmt.Errorf("input: table %s has no score section", in.Table))
			}
			continue
		}
		if name, _, _ := strings.Cut(score.Model, "@"); name == in.Name || in.Table != "" {
			out = append(out, c)
		}
	}
	if in.Table != "" && len(out) == 0 {
		return nil, Permanent(ErrTypeInput, fmt.Errorf("input: no contract tables/%s.yaml on this worker", in.Table))
	}
	return out, nil
}

func (a *Activities) readFile(ctx context.Context, name string) ([]byte, error) {
	data, err := a.o.Files.Read(ctx, name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, Permanent(ErrTypeInput, fmt.Errorf("input: file %s is not in the worker's project directory; copy it there, or use `tidemill model register`, which uploads it", name))
	}
	if errors.Is(err, fs.ErrInvalid) {
		return nil, Permanent(ErrTypeInput, fmt.Errorf("input: file %w", err))
	}
	if err != nil {
		return nil, err
	}
	return data, nil
}

// uploaded reads what InspectModel kept, and makes sure that it is the same.
func (a *Activities) uploaded(ctx context.Context, in Inspected) ([]byte, error) {
	data, err := a.o.Files.Read(ctx, in.Upload)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", in.Upload, err)
	}
	if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != in.SHA256 {
		return nil, Permanent(ErrTypeModel, fmt.Errorf("%s was changed after it was inspected; register the model again", in.Upload))
	}
	return data, nil
}

// golden reads the samples beside a model file: fraud.golden.json for fraud.onnx.
func (a *Activities) golden(ctx context.Context, file string) ([]byte, error) {
	base, ok := strings.CutSuffix(file, ".onnx")
	if !ok {
		return nil, nil
	}
	data, err := a.o.Files.Read(ctx, base+".golden.json")
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return data, err
}

// signature is a model's signature in one line.
func signature(s models.Signature) string {
	list := func(ts []models.TensorInfo) string {
		names := make([]string, len(ts))
		for i, t := range ts {
			names[i] = fmt.Sprint(t)
		}
		return strings.Join(names, ", ")
	}
	return list(s.Inputs) + " → " + list(s.Outputs)
}
