package export

import (
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/xuri/excelize/v2"
)

// The limits of the format.
const (
	maxSheetRows  = 1_048_576
	maxCellLength = 32_767 // UTF-16 units
	maxSheetTitle = 31
)

// cutMark ends a text that did not fit into a cell.
const cutMark = "… [truncated]"

// xlsxOutput writes a zip that holds one workbook with one sheet per table; a table of more rows than a sheet takes goes on
// in the next. Texts are text cells, which no spreadsheet evaluates. Rows wait in a temporary file, not in memory, since the
// format wants the sheets in one piece.
type xlsxOutput struct {
	to      io.Writer
	name    string
	now     time.Time
	maxRows int

	book   *excelize.File
	titles titles
	sheet  *excelize.StreamWriter
	title  string
	header []string
	row    int // last one written
	cells  []any
}

func newXLSX(w io.Writer, name string, now time.Time) *xlsxOutput {
	return &xlsxOutput{to: w, name: name, now: now, maxRows: maxSheetRows, book: excelize.NewFile(), titles: newTitles(maxSheetTitle)}
}

func (o *xlsxOutput) begin(title string, header []string) error {
	if err := o.flush(); err != nil {
		return err
	}
	o.title, o.header = title, header
	return o.next()
}

// next begins a sheet.
func (o *xlsxOutput) next() (err error) {
	title := o.titles.unique(o.title)
	if o.sheet == nil {
		err = o.book.SetSheetName("Sheet1", title)
	} else {
		_, err = o.book.NewSheet(title)
	}
	if err == nil {
		o.sheet, err = o.book.NewStreamWriter(title)
	}
	if err != nil {
		return fmt.Errorf("begin a sheet: %w", err)
	}
	o.row = 0
	o.cells = o.cells[:0]
	for _, name := range o.header {
		o.cells = append(o.cells, name)
	}
	return o.add()
}

func (o *xlsxOutput) add() error {
	o.row++
	if err := o.sheet.SetRow("A"+strconv.Itoa(o.row), o.cells); err != nil {
		return fmt.Errorf("write row %d: %w", o.row, err)
	}
	return nil
}

func (o *xlsxOutput) write(b *batch) error {
	for row := range b.rows {
		if o.row == o.maxRows {
			if err := o.flush(); err != nil {
				return err
			}
			if err := o.next(); err != nil {
				return err
			}
		}
		o.cells = o.cells[:0]
		for column := range b.width {
			o.cells = append(o.cells, sheetCell(b.cell(row, column)))
		}
		if err := o.add(); err != nil {
			return err
		}
	}
	return nil
}

// sheetCell is a number where the format can hold all its digits, else a text; nil for nothing.
func sheetCell(text []byte, number bool) any {
	if len(text) == 0 {
		return nil
	}
	if number && len(text) <= 15 {
		if x, err := strconv.ParseFloat(string(text), 64); err == nil {
			return x
		}
	}
	if len(text) > maxCellLength { // only then can it have more UTF-16 units
		return fitting(string(text), maxCellLength)
	}
	return string(text)
}

// fitting cuts a text to a number of UTF-16 units, and says that it did.
func fitting(text string, limit int) string {
	if units(text) <= limit {
		return text
	}
	left := limit - units(cutMark)
	for i, r := range text {
		if left -= max(1, utf16.RuneLen(r)); left < 0 {
			return text[:i] + cutMark
		}
	}
	return text
}

func units(text string) (n int) {
	for _, r := range text {
		n += max(1, utf16.RuneLen(r))
	}
	return n
}

func (o *xlsxOutput) flush() error {
	if o.sheet == nil {
		return nil
	}
	if err := o.sheet.Flush(); err != nil {
		return fmt.Errorf("end a sheet: %w", err)
	}
	return nil
}

func (o *xlsxOutput) close() error {
	if err := o.flush(); err != nil {
		return err
	}
	archive := newArchive(o.to)
	// The workbook is a zip itself: compressing it twice is of no use.
	file, err := archive.CreateHeader(&zip.FileHeader{Name: o.name + ".xlsx", Method: zip.Store, Modified: o.now})
	if err != nil {
		return fmt.Errorf("begin the workbook: %w", err)
	}
	book := newArchive(file)
	// Excelize would gather the workbook in memory and then copy it: it is given our writer instead of its buffer.
	o.book.SetZipWriter(func(io.Writer) excelize.ZipWriter { return book })
	if _, err := o.book.WriteToBuffer(); err != nil {
		return fmt.Errorf("write the workbook: %w", err)
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}

// abandon removes the temporary files.
func (o *xlsxOutput) abandon() { _ = o.book.Close() }

// titles makes names of files and sheets: nothing in them that a file system or a spreadsheet refuses, not too long, and
// none twice in any case.
type titles struct {
	limit int
	taken map[string]bool
}

func newTitles(limit int) titles { return titles{limit: limit, taken: map[string]bool{}} }

var forbidden = strings.NewReplacer("/", "_", `\`, "_", "?", "_", "*", "_", "[", "_", "]", "_", ":", "_", "'", "_", `"`, "_", "<", "_", ">", "_", "|", "_")

func (t titles) unique(name string) string {
	base := strings.Map(func(r rune) rune {
		if r < ' ' || r == utf8.RuneError {
			return '_'
		}
		return r
	}, forbidden.Replace(name))
	if strings.Trim(base, " .") == "" {
		base = "table"
	}
	for n := 1; ; n++ {
		suffix := ""
		if n > 1 {
			suffix = fmt.Sprintf(" (%d)", n)
		}
		title := cut(base, t.limit-len(suffix)) + suffix
		if key := strings.ToLower(title); !t.taken[key] {
			t.taken[key] = true
			return title
		}
	}
}

// cut keeps the first UTF-16 units of a text.
func cut(text string, limit int) string {
	for i, r := range text {
		if limit -= max(1, utf16.RuneLen(r)); limit < 0 {
			return text[:i]
		}
	}
	return text
}

var errOutput = errors.New("this format is not written here")
