package demo

import (
	"archive/zip"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/xuri/excelize/v2"
)

// personColumn names the patients in every table.
const personColumn = "person_id"

// table is what a downloaded file holds of one table.
type table struct {
	name    string
	columns int
	rows    int
	persons map[string]bool
}

// readCSV opens an archive of CSV files, one per table.
func readCSV(archive []byte) ([]table, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	var tables []table
	for _, f := range z.File {
		name, ok := strings.CutSuffix(f.Name, ".csv")
		if !ok {
			return nil, fmt.Errorf("the archive holds %q, which is no CSV file", f.Name)
		}
		t, err := readCSVFile(f, name)
		if err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

func readCSVFile(f *zip.File, name string) (table, error) {
	content, err := f.Open()
	if err != nil {
		return table{}, fmt.Errorf("table %s: %w", name, err)
	}
	defer func() { _ = content.Close() }()
	in := csv.NewReader(content) // refuses rows that are longer or shorter than the header
	return readRows(name, in.Read)
}

// readXLSX opens an archive of one workbook, with one sheet per table.
func readXLSX(archive []byte) ([]table, error) {
	z, err := zip.NewReader(bytes.NewReader(archive), int64(len(archive)))
	if err != nil {
		return nil, fmt.Errorf("open the archive: %w", err)
	}
	if len(z.File) != 1 || !strings.HasSuffix(z.File[0].Name, ".xlsx") {
		return nil, fmt.Errorf("the archive holds %d files, not one workbook", len(z.File))
	}
	content, err := z.File[0].Open()
	if err != nil {
		return nil, fmt.Errorf("open the workbook: %w", err)
	}
	defer func() { _ = content.Close() }()
	book, err := excelize.OpenReader(content)
	if err != nil {
		return nil, fmt.Errorf("open the workbook: %w", err)
	}
	defer func() { _ = book.Close() }()
	var tables []table
	for _, sheet := range book.GetSheetList() {
		rows, err := book.Rows(sheet)
		if err != nil {
			return nil, fmt.Errorf("open sheet %s: %w", sheet, err)
		}
		t, err := readRows(sheet, func() ([]string, error) {
			if !rows.Next() {
				if err := rows.Error(); err != nil {
					return nil, err
				}
				return nil, io.EOF
			}
			return rows.Columns()
		})
		if err := errors.Join(err, rows.Close()); err != nil {
			return nil, err
		}
		tables = append(tables, t)
	}
	return tables, nil
}

// readRows counts the rows below the header, and notes whose they are. Empty cells at the end of a row may be missing.
func readRows(name string, next func() ([]string, error)) (table, error) {
	t := table{name: name, persons: map[string]bool{}}
	header, err := next()
	if err != nil {
		return t, fmt.Errorf("table %s has no header: %w", name, err)
	}
	person := slices.Index(header, personColumn)
	if person < 0 {
		return t, fmt.Errorf("table %s has no column %s", name, personColumn)
	}
	t.columns = len(header)
	for {
		row, err := next()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			return t, fmt.Errorf("table %s: %w", name, err)
		}
		t.rows++
		if len(row) <= person || row[person] == "" {
			return t, fmt.Errorf("table %s, row %d: it is about nobody", name, t.rows)
		}
		t.persons[row[person]] = true
	}
}

// checkTables compares what a file holds with what it should: the wanted tables, each patient of the cohort once, and
// nothing about anybody else. It returns the tables in the wanted order.
func checkTables(found []table, wanted []string, patients int) ([]table, error) {
	if len(found) != len(wanted) {
		return nil, fmt.Errorf("the file holds %d tables, not %d", len(found), len(wanted))
	}
	var ordered []table
	for _, name := range wanted {
		i := slices.IndexFunc(found, func(t table) bool { return t.name == name })
		if i < 0 {
			return nil, fmt.Errorf("the file does not hold the table %s", name)
		}
		ordered = append(ordered, found[i])
	}
	persons := ordered[0]
	if persons.rows != patients || len(persons.persons) != patients {
		return nil, fmt.Errorf("the table %s has %d rows about %d patients; the cohort has %d", persons.name, persons.rows, len(persons.persons), patients)
	}
	for _, t := range ordered[1:] {
		if t.rows == 0 {
			return nil, fmt.Errorf("the table %s is empty, although every patient was found by what it holds", t.name)
		}
		for id := range t.persons {
			if !persons.persons[id] {
				return nil, fmt.Errorf("the table %s holds rows about somebody who is not in the cohort", t.name)
			}
		}
	}
	return ordered, nil
}
