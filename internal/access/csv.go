package access

import (
	"bufio"
	"bytes"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// maxLocalID is the length of the column.
const maxLocalID = 63

// perimeterColumn puts a cell of the perimeters' file into a row.
type perimeterColumn func(p *Perimeter, cell string) error

// perimeterColumns are those that the file may have (system.md 16.1). Empty texts stay empty; empty numbers are mistakes.
var perimeterColumns = map[string]perimeterColumn{
	"id": func(p *Perimeter, cell string) (err error) {
		p.ID, err = strconv.ParseInt(cell, 10, 64)
		return err
	},
	"parent_id": func(p *Perimeter, cell string) error {
		if cell == "" {
			return nil
		}
		id, err := strconv.ParseInt(cell, 10, 64)
		p.ParentID = &id
		return err
	},
	"local_id": func(p *Perimeter, cell string) error {
		if p.LocalID = cell; cell == "" || utf8.RuneCountInString(cell) > maxLocalID {
			return fmt.Errorf("must have 1 to %d characters", maxLocalID)
		}
		return nil
	},
	"name":              textCell(func(p *Perimeter) **string { return &p.Name }),
	"short_name":        textCell(func(p *Perimeter) **string { return &p.ShortName }),
	"source_value":      textCell(func(p *Perimeter) **string { return &p.SourceValue }),
	"type_source_value": textCell(func(p *Perimeter) **string { return &p.TypeSourceValue }),
	"cohort_id":         textCell(func(p *Perimeter) **string { return &p.CohortID }),
	"cohort_size":       textCell(func(p *Perimeter) **string { return &p.CohortSize }),
	"full_path":         textCell(func(p *Perimeter) **string { return &p.FullPath }),
	"above_levels_ids":  idsCell(func(p *Perimeter) **string { return &p.AboveLevelsIDs }),
	"inferior_levels_ids": idsCell(func(p *Perimeter) **string {
		return &p.InferiorLevelsIDs
	}),
	"level":                               numberCell(func(p *Perimeter) **int { return &p.Level }),
	"count_allowed_users":                 numberCell(func(p *Perimeter) **int { return &p.CountAllowedUsers }),
	"count_allowed_users_above_levels":    numberCell(func(p *Perimeter) **int { return &p.CountAllowedUsersAboveLevels }),
	"count_allowed_users_inferior_levels": numberCell(func(p *Perimeter) **int { return &p.CountAllowedUsersInferiorLevels }),
}

func textCell(at func(*Perimeter) **string) perimeterColumn {
	return func(p *Perimeter, cell string) error {
		*at(p) = &cell
		return nil
	}
}

func idsCell(at func(*Perimeter) **string) perimeterColumn {
	return func(p *Perimeter, cell string) error {
		for item := range strings.SplitSeq(cell, ",") {
			if item = strings.TrimSpace(item); item == "" {
				continue
			}
			if _, err := strconv.ParseInt(item, 10, 64); err != nil {
				return fmt.Errorf("%q is no id", item)
			}
		}
		*at(p) = &cell
		return nil
	}
}

func numberCell(at func(*Perimeter) **int) perimeterColumn {
	return func(p *Perimeter, cell string) error {
		n, err := strconv.Atoi(cell)
		*at(p) = &n
		return err
	}
}

// ReadPerimeters reads the perimeters' file: UTF-8, separated by ";", a header with the names of columns in any order
// (system.md 16.1). Parents may come after their children. What is wrong is told with its line, and nothing is returned.
func ReadPerimeters(file io.Reader) ([]Perimeter, error) {
	buffered := bufio.NewReader(file)
	if mark, err := buffered.Peek(3); err == nil && bytes.Equal(mark, []byte("\ufeff")) {
		_, _ = buffered.Discard(len(mark))
	}
	reader := csv.NewReader(buffered)
	reader.Comma = ';'
	header, err := reader.Read()
	if errors.Is(err, io.EOF) {
		return nil, errors.New("read perimeters: the file is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("read perimeters: %w", err)
	}
	columns, err := checkHeader(header)
	if err != nil {
		return nil, err
	}
	var rows []Perimeter
	lines := map[int64]int{}
	locals := map[string]int{}
	for {
		record, err := reader.Read()
		if errors.Is(err, io.EOF) {
			return rows, checkTree(rows, lines)
		}
		if err != nil {
			return nil, fmt.Errorf("read perimeters: %w", err) // csv's error names the line
		}
		line, _ := reader.FieldPos(0)
		row, err := readPerimeter(header, columns, record)
		if err != nil {
			return nil, fmt.Errorf("read perimeters: line %d: %w", line, err)
		}
		if before, taken := lines[row.ID]; taken {
			return nil, fmt.Errorf("read perimeters: line %d: id %d is that of line %d", line, row.ID, before)
		}
		if before, taken := locals[row.LocalID]; taken {
			return nil, fmt.Errorf("read perimeters: line %d: local_id %q is that of line %d", line, row.LocalID, before)
		}
		lines[row.ID], locals[row.LocalID] = line, line
		rows = append(rows, row)
	}
}

func checkHeader(header []string) ([]perimeterColumn, error) {
	columns := make([]perimeterColumn, len(header))
	for i, name := range header {
		header[i] = strings.TrimSpace(name)
		column, known := perimeterColumns[header[i]]
		if !known {
			return nil, fmt.Errorf("read perimeters: line 1: the perimeters have no column %q", header[i])
		}
		if slices.Contains(header[:i], header[i]) {
			return nil, fmt.Errorf("read perimeters: line 1: column %q comes twice", header[i])
		}
		columns[i] = column
	}
	for _, name := range []string{"id", "local_id"} {
		if !slices.Contains(header, name) {
			return nil, fmt.Errorf("read perimeters: line 1: column %q is missing", name)
		}
	}
	return columns, nil
}

func readPerimeter(header []string, columns []perimeterColumn, record []string) (Perimeter, error) {
	row := Perimeter{CountAllowedUsers: new(0), CountAllowedUsersAboveLevels: new(0), CountAllowedUsersInferiorLevels: new(0)}
	for i, cell := range record {
		if !utf8.ValidString(cell) || strings.ContainsRune(cell, 0) {
			return row, fmt.Errorf("%s is not UTF-8 text", header[i])
		}
		if err := columns[i](&row, cell); err != nil {
			var number *strconv.NumError
			if errors.As(err, &number) {
				err = fmt.Errorf("%q is no whole number", cell)
			}
			return row, fmt.Errorf("%s: %w", header[i], err)
		}
	}
	return row, nil
}

// checkTree refuses rows that make no tree with one root.
func checkTree(rows []Perimeter, lines map[int64]int) error {
	if len(rows) == 0 {
		return errors.New("read perimeters: the file has no rows")
	}
	var mistakes, roots []string
	for _, row := range rows {
		switch {
		case row.ParentID == nil:
			roots = append(roots, strconv.Itoa(lines[row.ID]))
		case lines[*row.ParentID] == 0:
			mistakes = append(mistakes, fmt.Sprintf("line %d: parent_id %d is not in the file", lines[row.ID], *row.ParentID))
		}
	}
	if len(mistakes) == 0 {
		for _, problem := range BuildTree(rows).Problems() {
			mistakes = append(mistakes, fmt.Sprintf("line %d: %s", lines[problem.PerimeterID], problem))
		}
	}
	switch {
	case len(mistakes) > 0:
		return fmt.Errorf("read perimeters: %s", someOf(mistakes, "; "))
	case len(roots) > 1:
		return fmt.Errorf("read perimeters: %w: lines %s have no parent_id", ErrSeveralRoots, someOf(roots, ", "))
	}
	return nil
}

// maxTold is how many mistakes are told: a wrong column makes one of every line.
const maxTold = 20

func someOf(list []string, separator string) string {
	if more := len(list) - maxTold; more > 0 {
		list = append(slices.Clone(list[:maxTold]), fmt.Sprintf("and %d more", more))
	}
	return strings.Join(list, separator)
}
