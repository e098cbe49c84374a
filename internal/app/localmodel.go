package app

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/tidemill/tidemill/contract"
	"github.com/tidemill/tidemill/internal/problem"
	"github.com/tidemill/tidemill/internal/project"
	"github.com/tidemill/tidemill/models"
	"github.com/tidemill/tidemill/models/onnx"
)

// localModel is a model file of the project, as far as it can be known without
// running anything of it.
type localModel struct {
	project.Model
	data      []byte
	signature models.Signature
}

// localModelOf finds the file that tidemill.yaml names for a contract's model; nil
// when it names none, so that the model can be in the registry only.
func localModelOf(p *project.Project, score *contract.Score) (*localModel, error) {
	ref, err := models.ParseRef(score.Model)
	if err != nil {
		return nil, err
	}
	for _, m := range p.Models() {
		if m.Name != ref.Name || m.Alias != ref.Alias {
			continue
		}
		data, err := os.ReadFile(m.File)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // tidemill.yaml's own check has said so
		}
		if err != nil {
			return nil, fmt.Errorf("model %s: %w", m.Name, err)
		}
		g, err := models.Inspect(data)
		if err != nil {
			return nil, problem.List{{File: projectFile(p), Line: m.Line, Field: "models", Message: fmt.Sprintf("%s: %v", m.File, err)}}
		}
		return &localModel{m, data, g.Signature}, nil
	}
	return nil, nil
}

// scorer opens the model to score rows with.
func (m *localModel) scorer(ctx context.Context, score *contract.Score, log *slog.Logger) (*models.Scorer, error) {
	sum := sha256.Sum256(m.data)
	return models.NewScorer(ctx, models.ScorerOptions{
		Runtime: onnx.Runtime{Logger: log}, Data: m.data, Score: score,
		Version: models.Version{Name: m.Name, SHA256: hex.EncodeToString(sum[:]), Signature: m.signature},
	})
}
