package harness

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// ProjectName is the name of generated projects, Table that of their one table.
const (
	ProjectName = "bench"
	Table       = "transactions"
)

// Features says whether a generated contract computes features.
type Features bool

// WriteProject makes a project in dir: card transactions of ten columns, one
// check, the model of examples/fraud, and the given connector.
func WriteProject(dir, connector string, features Features) error {
	model, err := os.ReadFile(filepath.Join("examples", "fraud", "models", "fraud.onnx"))
	if err != nil {
		return fmt.Errorf("%w; run the benchmark from the module's root", err)
	}
	for name, content := range map[string]string{
		"tidemill.yaml":              "project: " + ProjectName + "\nmodels:\n  - {name: fraud, file: models/fraud.onnx, alias: champion}\n",
		"models/fraud.onnx":          string(model),
		"connectors/" + "cards.yaml": connector,
		"tables/" + Table + ".yaml":  contract(features),
	} {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			return err
		}
	}
	return nil
}

func contract(features Features) string {
	const columns = `table: transactions
columns:
  - {name: tx_id, type: string, required: true}
  - {name: card_id, type: string, required: true}
  - {name: amount, type: double, required: true}
  - {name: country, type: string}
  - {name: merchant_risk, type: double, required: true}
  - {name: hour_of_day, type: long, required: true}
  - {name: is_foreign, type: long, required: true}
  - {name: tx_per_hour, type: long, required: true}
  - {name: channel, type: string}
  - {name: ts, type: timestamp, required: true}
key: [tx_id]
event_time: ts
checks:
  - {name: positive_amount, expr: "amount > 0", on_fail: quarantine}
`
	const score = `score:
  model: fraud@champion
  inputs: [AMOUNT, hour_of_day, is_foreign, merchant_risk, tx_per_hour]
  output: {fraud_score: "probabilities[1]"}
`
	if !features {
		return columns + strings.Replace(score, "AMOUNT", "amount", 1)
	}
	return columns + `features: |
  SELECT *, ln(amount) AS log_amount, hour(ts) AS hour_of_event,
    CASE WHEN country = 'DE' THEN 0 ELSE 1 END AS abroad
  FROM batch
` + strings.Replace(score, "AMOUNT", "log_amount", 1)
}

var (
	countries = [...]string{"DE", "FR", "US", "NL", "BR", "CN"}
	channels  = [...]string{"pos", "online", "atm"}
	risks     = [...]string{"0.1", "0.2", "0.5", "0.6", "0.9"}
)

// AppendRow appends row i as a JSON object and a newline, about 200 bytes that
// look random and are the same each time. One row in FailEvery fails the check.
func AppendRow(b []byte, i int64, ts string) []byte {
	h := uint64(i)*0x9E3779B97F4A7C15 + 0x632BE59BD9B4E019
	h ^= h >> 29
	h *= 0xBF58476D1CE4E5B9
	h ^= h >> 32
	b = append(b, `{"tx_id":"`...)
	b = appendDigits(append(b, "tx-"...), uint64(i), 12)
	b = appendDigits(append(b, `","card_id":"card-`...), h%20_000, 8)
	b = append(b, `","amount":`...)
	if Fails(i) {
		b = append(b, '-')
	}
	b = appendNumber(b, 1+h>>8%900)
	b = appendDigits(append(b, '.'), h>>18%100, 2)
	country := h >> 24 % uint64(len(countries))
	b = append(append(b, `,"country":"`...), countries[country]...)
	b = append(append(b, `","merchant_risk":`...), risks[h>>30%uint64(len(risks))]...)
	b = appendNumber(append(b, `,"hour_of_day":`...), h>>34%24)
	b = appendNumber(append(b, `,"is_foreign":`...), min(country, 1))
	b = appendNumber(append(b, `,"tx_per_hour":`...), h>>40%18)
	b = append(append(b, `,"channel":"`...), channels[h>>46%uint64(len(channels))]...)
	b = append(append(b, `","ts":"`...), ts...)
	return append(b, "\"}\n"...)
}

// FailEvery is the share of rows that fail the check.
const FailEvery = 1000

// Fails says whether row i fails the check.
func Fails(i int64) bool { return i%FailEvery == FailEvery/2 }

// Failing is how many of the rows from 0 to n fail the check.
func Failing(n int64) int64 { return (n + FailEvery/2 - 1) / FailEvery }

// RowID reads a row's number back from its tx_id.
func RowID(txID string) (int64, bool) {
	if len(txID) != 15 || txID[:3] != "tx-" {
		return 0, false
	}
	n := int64(0)
	for _, c := range []byte(txID[3:]) {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = 10*n + int64(c-'0')
	}
	return n, true
}

func appendDigits(b []byte, v uint64, width int) []byte {
	at := len(b)
	for range width {
		b = append(b, '0')
	}
	for i := len(b) - 1; i >= at; i-- {
		b[i] = byte('0' + v%10)
		v /= 10
	}
	return b
}

func appendNumber(b []byte, v uint64) []byte {
	width := 1
	for t := v; t >= 10; t /= 10 {
		width++
	}
	return appendDigits(b, v, width)
}
