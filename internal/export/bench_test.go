package export

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"runtime/metrics"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/xuri/excelize/v2"

	"cohortflow/internal/fhir"
	"cohortflow/internal/platform/httpclient"
)

const (
	benchRows = 100_000
	benchPage = 1000
)

// pages is a FHIR server without a network: each page has the same observations, and a link to the next.
type pages struct{ entries []byte }

func newPages() *pages {
	var b bytes.Buffer
	for i := range benchPage {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, `{"fullUrl":"http://fhir.test/fhir/Observation/obs-%d","resource":{"resourceType":"Observation","id":"obs-%d","meta":{"versionId":"1","lastUpdated":"2025-03-05T10:11:12.345Z","source":"ORBIS"},"status":"final","category":[{"coding":[{"system":"http://terminology.hl7.org/CodeSystem/observation-category","code":"laboratory"}]}],"code":{"coding":[{"system":"https://terminology.eds.aphp.fr/aphp-itm-anabio","code":"A%04d","display":"Hémoglobine, \"sang\" (%d)"}],"text":"Hb"},"subject":{"reference":"Patient/pat-%d"},"encounter":{"reference":"Encounter/enc-%d"},"effectiveDateTime":"2024-%02d-%02dT08:%02d:00Z","valueQuantity":{"value":%d.%d,"unit":"g/dL"},"referenceRange":[{"low":{"value":11.5},"high":{"value":16}}]},"search":{"mode":"match"}}`,
			i, i, i%500, i, i%97, i%31, 1+i%12, 1+i%28, i%60, 8+i%9, i%10)
	}
	return &pages{b.Bytes()}
}

func (p *pages) RoundTrip(r *http.Request) (*http.Response, error) {
	page, _ := strconv.Atoi(r.URL.Query().Get("page"))
	head := `{"resourceType":"Bundle","type":"searchset",`
	if (page+1)*benchPage < benchRows {
		head += fmt.Sprintf(`"link":[{"relation":"next","url":"http://fhir.test/fhir/Observation?page=%d"}],`, page+1)
	}
	body := io.MultiReader(strings.NewReader(head+`"entry":[`), bytes.NewReader(p.entries), strings.NewReader(`]}`))
	return &http.Response{StatusCode: 200, Header: http.Header{}, Body: io.NopCloser(body), Request: r}, nil
}

// peakHeap samples the heap until the returned function is called, which tells how much it grew at most.
func peakHeap() func() float64 {
	runtime.GC()
	sample := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	read := func() uint64 { metrics.Read(sample); return sample[0].Value.Uint64() }
	first := read()
	peak := first
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(2 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-stop:
				return
			case <-tick.C:
				peak = max(peak, read())
			}
		}
	}()
	return func() float64 { close(stop); <-done; return float64(peak-first) / (1 << 20) }
}

func benchmark(b *testing.B, format string, bare func(io.Writer, [][]string) error) {
	transport := newPages()
	http, err := httpclient.New(slog.New(slog.DiscardHandler), httpclient.Config{Transport: transport})
	require.NoError(b, err)
	client, err := fhir.New(http, fhir.Config{URL: "http://fhir.test/fhir"})
	require.NoError(b, err)
	tables, err := newCatalogue()
	require.NoError(b, err)
	measurement, err := tables.find("measurement")
	require.NoError(b, err)
	p := plan{format: format, name: "bench", person: planned{table: measurement, title: "measurement", columns: measurement.columns, group: "1"}}
	cells := benchCells(b, measurement)
	dir := b.TempDir()
	intoFile := func(f func(io.Writer) error) time.Duration {
		start := time.Now()
		file, err := os.Create(filepath.Join(dir, "out.zip"))
		require.NoError(b, err)
		require.NoError(b, f(file))
		require.NoError(b, file.Close())
		return time.Since(start)
	}
	if format == "csv" { // the comparison holds only where both write the same
		sameCells(b, client, p, bare, cells)
	}
	var ours, theirs time.Duration
	var peak float64
	for b.Loop() {
		theirs += intoFile(func(w io.Writer) error { return bare(w, cells) })
		stop := peakHeap()
		ours += intoFile(func(w io.Writer) error {
			rows, err := builtin{source: client}.write(b.Context(), p, w, time.Now())
			require.EqualValues(b, benchRows, rows)
			return err
		})
		peak = max(peak, stop())
	}
	b.ReportMetric(float64(benchRows*b.N)/ours.Seconds(), "rows/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "x-bare")
	b.ReportMetric(peak, "peak-MiB")
}

// sameCells compares the two files: ours has a header, and is else the same.
func sameCells(b *testing.B, client *fhir.Client, p plan, bare func(io.Writer, [][]string) error, cells [][]string) {
	var ours, theirs bytes.Buffer
	_, err := builtin{source: client}.write(b.Context(), p, &ours, time.Now())
	require.NoError(b, err)
	require.NoError(b, bare(&theirs, cells))
	_, rows, _ := bytes.Cut(unzip(b, ours.Bytes())["measurement.csv"], []byte("\n"))
	require.True(b, bytes.Equal(unzip(b, theirs.Bytes())["measurement.csv"], rows), "both write the same cells")
}

// benchCells are the cells of one page, which the bare writers write over and over.
func benchCells(b *testing.B, t *table) [][]string {
	r := newReader(planned{table: t, columns: t.columns}, false)
	out := &batch{}
	out.reset(len(t.columns))
	var bundle struct{ Entry []struct{ Resource rawJSON } }
	require.NoError(b, decode(append(append([]byte(`{"entry":[`), newPages().entries...), `]}`...), &bundle))
	for _, e := range bundle.Entry {
		_, err := r.rows(e.Resource, out)
		require.NoError(b, err)
	}
	var rows [][]string
	for row := range out.rows {
		var cells []string
		for column := range out.width {
			text, _ := out.cell(row, column)
			cells = append(cells, string(text))
		}
		rows = append(rows, cells)
	}
	return rows
}

// BenchmarkExportCSV compares with encoding/csv writing the same cells into the same kind of archive.
func BenchmarkExportCSV(b *testing.B) {
	benchmark(b, "csv", func(w io.Writer, cells [][]string) error {
		z := zip.NewWriter(w)
		z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
		file, err := z.Create("measurement.csv")
		if err != nil {
			return err
		}
		if err := bareCSV(file, cells); err != nil {
			return err
		}
		return z.Close()
	})
}

func bareCSV(w io.Writer, cells [][]string) error {
	out := csv.NewWriter(w)
	for i := range benchRows {
		if err := out.Write(cells[i%len(cells)]); err != nil {
			return err
		}
	}
	out.Flush()
	return out.Error()
}

func BenchmarkExportXLSX(b *testing.B) {
	benchmark(b, "xlsx", func(w io.Writer, cells [][]string) error {
		book := excelize.NewFile()
		defer book.Close()
		sheet, err := book.NewStreamWriter("Sheet1")
		if err != nil {
			return err
		}
		row := make([]any, len(cells[0]))
		for i := range benchRows {
			for k, c := range cells[i%len(cells)] {
				row[k] = c
			}
			if err := sheet.SetRow("A"+strconv.Itoa(i+1), row); err != nil {
				return err
			}
		}
		if err := sheet.Flush(); err != nil {
			return err
		}
		return book.Write(w)
	})
}
