package export

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/goccy/go-yaml"
	"github.com/google/uuid"
)

// contents is what a run needs to know of an export: its cohorts, filters and datalab.
type contents struct {
	Export
	groups  map[uuid.UUID]string // group_id by cohort
	filters map[uuid.UUID]filter
	datalab string
}

// group is the list of a table: its subset's, or "".
func (c contents) subset(t Table) string {
	if t.CohortResultSubsetID == nil {
		return ""
	}
	return c.groups[*t.CohortResultSubsetID]
}

func (c contents) source(t Table) string {
	if t.CohortResultSourceID == nil {
		return ""
	}
	return c.groups[*t.CohortResultSourceID]
}

// What makes an export impossible, worded for people.
var (
	errNoPerson    = &failure{text: "Missing person table from export"}
	errTwoPersons  = &failure{text: "The export has more than one person table"}
	errNoGroup     = &failure{text: "The person table has no source cohort"}
	errNoPseudo    = &failure{text: "A pseudonymised export needs a datalab"}
	errNoDirectory = &failure{text: "No directory is configured for exports of this format"}
)

// yamlText is what users and operators have named. It is quoted unless every reader of YAML, of whatever version, takes it
// for a text: 98213 is a number to all of them, 12:30 to some, and "no" is not true.
type yamlText string

var plainText = regexp.MustCompile(`^[/A-Za-z_][/\w.-]{3,}$`)

var notText = regexp.MustCompile(`^(?i:null|true|false)$`)

// MarshalYAML implements yaml.BytesMarshaler.
func (t yamlText) MarshalYAML() ([]byte, error) {
	if plainText.MatchString(string(t)) && !notText.MatchString(string(t)) {
		return []byte(t), nil
	}
	return strconv.AppendQuote(nil, string(t)), nil // Go's escapes are YAML's
}

func textsOf(list []string) []yamlText {
	texts := make([]yamlText, len(list))
	for i, one := range list {
		texts[i] = yamlText(one)
	}
	return texts
}

// person finds the one table of persons and the list of its patients; the others keep their order.
func (c contents) person() (person Table, group string, others []Table, err error) {
	found := false
	for _, t := range c.Tables {
		switch {
		case !isPerson(t.Name):
			others = append(others, t)
		case found:
			return t, "", nil, errTwoPersons
		default:
			person, found = t, true
		}
	}
	if !found {
		return person, "", nil, errNoPerson
	}
	if group = c.subset(person); group == "" {
		group = c.source(person)
	}
	if group == "" {
		return person, "", nil, errNoGroup
	}
	return person, group, others, nil
}

// document is the YAML that the export API is sent (exports.md 21), its keys in the order of the contract.
func (c contents) document(disableTerminology bool) ([]byte, error) {
	person, group, others, err := c.person()
	if err != nil {
		return nil, err
	}
	if c.path() == "" {
		return nil, errNoDirectory
	}
	var doc yaml.MapSlice
	add := func(key string, value any) { doc = append(doc, yaml.MapItem{Key: key, Value: value}) }
	if c.OutputFormat == formatHive {
		add("output", yaml.MapSlice{{Key: "type", Value: formatHive}, {Key: "databaseName", Value: yamlText(c.target())}})
	} else {
		add("joinOnPrimaryKey", c.GroupTables)
		add("output", yaml.MapSlice{{Key: "type", Value: c.OutputFormat}, {Key: "filePath", Value: yamlText(c.path() + ".zip")}})
		if pivots := c.pivots(); len(pivots) > 0 {
			add("pivotMerge", pivots)
		}
	}
	add("overwrite", true)
	// The API knows the table by this name alone; the portal calls it patient.
	tables := []any{withColumns(yaml.MapSlice{{Key: "tableName", Value: personName}, {Key: "cohortId", Value: yamlText(group)}, {Key: "relation", Value: true}}, person)}
	for _, t := range others {
		item := yaml.MapSlice{{Key: "tableName", Value: yamlText(t.Name)}, {Key: "relation", Value: true}}
		if subset := c.subset(t); subset != "" {
			item = append(item, yaml.MapItem{Key: "cohortId", Value: yamlText(subset)})
		}
		tables = append(tables, withColumns(item, t))
	}
	add("tablesToExport", tables)
	add("noDateShift", c.Nominative || !c.ShiftDates)
	add("disableTerminology", disableTerminology)
	if !c.Nominative {
		if c.datalab == "" {
			return nil, errNoPseudo
		}
		add("pseudo", yamlText(c.datalab))
	}
	written, err := yaml.Marshal(doc)
	if err != nil {
		return nil, fmt.Errorf("write the YAML: %w", err)
	}
	return written, nil
}

func withColumns(item yaml.MapSlice, t Table) yaml.MapSlice {
	if len(t.Columns) > 0 {
		item = append(item, yaml.MapItem{Key: "columnsToExport", Value: textsOf(t.Columns)})
	}
	return item
}

// pivots are objects as soon as one table names columns or ids, even none; else the names of the tables to pivot.
func (c contents) pivots() []any {
	var detailed, plain []any
	for _, t := range c.Tables {
		name := t.Name
		if isPerson(name) {
			name = personName
		}
		if t.PivotMergeColumns != nil || t.PivotMergeIDs != nil {
			item := yaml.MapSlice{{Key: "tableName", Value: yamlText(name)}}
			if len(t.PivotMergeColumns) > 0 {
				item = append(item, yaml.MapItem{Key: "pivotedColumnsToKeep", Value: textsOf(t.PivotMergeColumns)})
			}
			if len(t.PivotMergeIDs) > 0 {
				item = append(item, yaml.MapItem{Key: "idsToMerge", Value: textsOf(t.PivotMergeIDs)})
			}
			detailed = append(detailed, item)
		}
		if t.PivotMerge {
			plain = append(plain, yamlText(name))
		}
	}
	if detailed != nil {
		return detailed
	}
	return plain
}
