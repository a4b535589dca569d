package demo

import (
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf8"
)

// transcript prints what happens: steps, and under them lines with a label. It keeps the first error of the writer.
type transcript struct {
	w   io.Writer
	err error
}

const labelWidth = 12

func (t *transcript) print(format string, args ...any) {
	if t.err == nil {
		_, t.err = fmt.Fprintf(t.w, format, args...)
	}
}

func (t *transcript) step(n, of int, name string) { t.print("\n%d/%d %s\n", n, of, name) }

// line prints a label and what there is to say about it.
func (t *transcript) line(label, format string, args ...any) {
	t.print("    %s  %s\n", pad(label, labelWidth), fmt.Sprintf(format, args...))
}

// rows prints a label and, beside it, rows of cells that stand below each other.
func (t *transcript) rows(label string, rows [][]string) {
	widths := []int{}
	for _, row := range rows {
		for i, cell := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	for _, row := range rows {
		var b strings.Builder
		for i, cell := range row {
			b.WriteString(pad(cell, widths[i]) + "  ")
		}
		t.line(label, "%s", strings.TrimRight(b.String(), " "))
		label = ""
	}
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}

// moment prints a time of the day.
func moment(t time.Time) string { return t.UTC().Format("15:04:05.000") }
