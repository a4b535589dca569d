package export

import (
	"archive/zip"
	"bytes"
	"compress/flate"
	"encoding/binary"
	"fmt"
	"io"
	"time"
	"unicode/utf8"
)

// output is the file of an export while it is written: tables one after the other, each with a header and rows. close ends
// the file; without it, it is not one.
type output interface {
	begin(title string, header []string) error
	write(b *batch) error
	close() error
	// abandon frees what the output holds besides the file, also after close.
	abandon()
}

// newArchive is the zip of every export. Compressing fast costs a tenth of the size and saves most of the time.
func newArchive(w io.Writer) *zip.Writer {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, flate.BestSpeed) })
	return z
}

// csvOutput writes a zip with one CSV file per table (RFC 4180, UTF-8, comma, line feeds).
type csvOutput struct {
	archive *zip.Writer
	now     time.Time
	titles  titles
	file    io.Writer
	buf     []byte
}

func newCSV(w io.Writer, now time.Time) *csvOutput {
	return &csvOutput{archive: newArchive(w), now: now, titles: newTitles(200)}
}

func (o *csvOutput) begin(title string, header []string) (err error) {
	o.file, err = o.archive.CreateHeader(&zip.FileHeader{Name: o.titles.unique(title) + ".csv", Method: zip.Deflate, Modified: o.now})
	if err != nil {
		return fmt.Errorf("begin a file: %w", err)
	}
	o.buf = o.buf[:0]
	for i, name := range header {
		if i > 0 {
			o.buf = append(o.buf, ',')
		}
		o.buf = appendCSV(o.buf, []byte(name), false)
	}
	o.buf = append(o.buf, '\n')
	return o.flush()
}

func (o *csvOutput) write(b *batch) error {
	dst, from, column := o.buf[:0], 0, 0
	for i, end := range b.ends {
		dst = appendCSV(dst, b.data[from:end], b.numbers[i])
		from = end
		if column++; column < b.width {
			dst = append(dst, ',')
		} else {
			dst, column = append(dst, '\n'), 0
		}
	}
	o.buf = dst
	return o.flush()
}

func (o *csvOutput) flush() error {
	if _, err := o.file.Write(o.buf); err != nil {
		return fmt.Errorf("write rows: %w", err)
	}
	return nil
}

func (o *csvOutput) close() error {
	if err := o.archive.Close(); err != nil {
		return fmt.Errorf("end the archive: %w", err)
	}
	return nil
}

func (o *csvOutput) abandon() {}

// special marks the bytes for which a field is quoted, and those outside of ASCII, whose encoding is checked.
var special = func() (set [256]bool) {
	for _, c := range []byte(",\"\n\r\t ") {
		set[c] = true
	}
	for c := utf8.RuneSelf; c < 256; c++ {
		set[c] = true
	}
	return set
}()

// plain tells whether a field is written as it is. Most are: dates, codes, identifiers, addresses have no byte below '-',
// and are looked at eight bytes at a time.
func plain(text []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for ; len(text) >= 8; text = text[8:] {
		w := binary.LittleEndian.Uint64(text)
		if ((w-ones*'-')&^w|w)&highs == 0 {
			continue
		}
		for _, c := range text[:8] {
			if special[c] {
				return false
			}
		}
	}
	for _, c := range text {
		if special[c] {
			return false
		}
	}
	return true
}

// appendCSV appends one field. Texts that a spreadsheet would take for a formula get an apostrophe in front: what a
// patient's record says must not run on a researcher's machine.
func appendCSV(dst, text []byte, number bool) []byte {
	if len(text) == 0 || number {
		return append(dst, text...)
	}
	guarded := formula(text)
	if plain(text) && !guarded {
		return append(dst, text...)
	}
	if !utf8.Valid(text) {
		text = bytes.ToValidUTF8(text, []byte("\uFFFD"))
	}
	if !bytes.ContainsAny(text, ",\"\n\r") && text[0] != ' ' && text[0] != '\t' {
		if guarded {
			dst = append(dst, '\'')
		}
		return append(dst, text...)
	}
	dst = append(dst, '"')
	if guarded {
		dst = append(dst, '\'')
	}
	for {
		at := bytes.IndexByte(text, '"')
		if at < 0 {
			break
		}
		dst = append(append(dst, text[:at+1]...), '"')
		text = text[at+1:]
	}
	return append(append(dst, text...), '"')
}

// formula tells whether a spreadsheet would evaluate the text. What is only a signed number is none.
func formula(text []byte) bool {
	switch text[0] {
	case '=', '@', '\t', '\r':
		return true
	case '+', '-':
		for _, c := range text[1:] {
			if (c < '0' || c > '9') && c != '.' {
				return true
			}
		}
	}
	return false
}
