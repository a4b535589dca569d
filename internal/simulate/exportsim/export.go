// Package exportsim is a double of the export API: it takes the description of an export, lets its task run for a while,
// and writes a real zip of CSV tables over the demo hospital into the simulated HDFS (contract: peers.md 5). Simulate
// serves it; the Hadoop double shares its tasks. It writes no XLSX: the archive of such an export holds the same tables
// as CSV, in a zip all the same.
package exportsim

import (
	"archive/zip"
	"bytes"
	"cmp"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/goccy/go-yaml"

	"cohortflow/internal/platform/clock"
	"cohortflow/internal/simulate/hospital"
)

// Config is what the double needs.
type Config struct {
	Clock    clock.Clock
	Hospital *hospital.Hospital
	Lists    *hospital.Lists
	Token    string                               // what the header auth-token must hold; empty: anything
	Write    func(path string, data []byte) error // puts a file into the simulated HDFS
	Duration time.Duration                        // how long a task takes
}

// Server is the double; it is an http.Handler.
type Server struct {
	cfg   Config
	tasks *Tasks
	mux   *http.ServeMux
}

// document is the YAML that launches an export.
type document struct {
	Output struct {
		Type         string `yaml:"type"`
		FilePath     string `yaml:"filePath"`
		DatabaseName string `yaml:"databaseName"`
	} `yaml:"output"`
	Tables []table `yaml:"tablesToExport"`
}

type table struct {
	Name     string   `yaml:"tableName"`
	CohortID string   `yaml:"cohortId"`
	Columns  []string `yaml:"columnsToExport"`
}

// New makes the server.
func New(cfg Config) *Server {
	s := &Server{cfg: cfg, tasks: NewTasks(cfg.Clock, cfg.Duration), mux: http.NewServeMux()}
	s.mux.HandleFunc("POST /yaml", s.launch)
	s.mux.HandleFunc("GET /task_status", s.tasks.ServeStatus)
	return s
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !Authorized(r, s.cfg.Token) {
		Answer(w, http.StatusUnauthorized, map[string]string{"detail": "invalid auth-token"})
		return
	}
	s.mux.ServeHTTP(w, r)
}

// Tasks are the tasks of the exports, for assertions.
func (s *Server) Tasks() *Tasks { return s.tasks }

func (s *Server) launch(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, 16<<20)
	text, doc, err := read(r)
	if err == nil {
		err = s.check(doc)
	}
	if err != nil {
		Answer(w, http.StatusUnprocessableEntity, map[string]string{"detail": err.Error()})
		return
	}
	id := s.tasks.Add(string(text), func() error { return s.export(doc) })
	Answer(w, http.StatusOK, map[string]string{"task_id": id})
}

func read(r *http.Request) ([]byte, document, error) {
	var doc document
	file, _, err := r.FormFile("yaml_file")
	if err != nil {
		return nil, doc, fmt.Errorf("the part yaml_file is missing")
	}
	defer file.Close()
	text, err := io.ReadAll(file)
	if err != nil {
		return nil, doc, fmt.Errorf("the part yaml_file is not readable")
	}
	if err := yaml.Unmarshal(text, &doc); err != nil {
		return nil, doc, fmt.Errorf("the YAML is not readable")
	}
	return text, doc, nil
}

// check refuses what the real one cannot carry out.
func (s *Server) check(doc document) error {
	switch doc.Output.Type {
	case "csv", "xlsx":
		if doc.Output.FilePath == "" {
			return fmt.Errorf("output.filePath is missing")
		}
	case "hive":
		if doc.Output.DatabaseName == "" {
			return fmt.Errorf("output.databaseName is missing")
		}
	default:
		return fmt.Errorf("output.type %q is not known", doc.Output.Type)
	}
	for _, t := range doc.Tables {
		if t.Name == "person" && t.CohortID == "" {
			return fmt.Errorf("the table person has no cohortId")
		}
		if t.Name == "person" {
			return nil
		}
	}
	return fmt.Errorf("the table person is missing")
}

// export writes the archive; the database of a Hive export is only noted.
func (s *Server) export(doc document) error {
	if doc.Output.Type == "hive" {
		return nil
	}
	var archive bytes.Buffer
	out := zip.NewWriter(&archive)
	var persons string
	for _, t := range doc.Tables {
		if t.Name == "person" {
			persons = t.CohortID
		}
	}
	for _, t := range doc.Tables {
		file, err := out.Create(t.Name + ".csv")
		if err != nil {
			return err
		}
		if err := s.writeTable(file, t, persons); err != nil {
			return fmt.Errorf("table %s: %w", t.Name, err)
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return s.cfg.Write(doc.Output.FilePath, archive.Bytes())
}

// kindOf maps the names of tables (OMOP's, those of the portal) to resources.
func kindOf(name string) (hospital.Kind, bool) {
	kind, ok := map[string]hospital.Kind{"person": hospital.Patients, "patient": hospital.Patients, "visit_occurrence": hospital.Encounters,
		"visit_detail": hospital.Encounters, "condition_occurrence": hospital.Conditions, "condition": hospital.Conditions,
		"procedure_occurrence": hospital.Procedures, "procedure": hospital.Procedures, "cost": hospital.Claims,
		"measurement": hospital.Observations, "observation_laboratory": hospital.Observations, "note": hospital.DocumentReferences,
		"drug_exposure_prescription": hospital.MedicationRequests, "drug_exposure_administration": hospital.MedicationAdministrations,
		"imaging_study": hospital.ImagingStudies}[strings.ToLower(name)]
	return kind, ok
}

// writeTable writes the records of the table's own cohort, or of the persons'. A table that the hospital does not hold is
// written empty.
func (s *Server) writeTable(w io.Writer, t table, persons string) error {
	out := csv.NewWriter(w)
	kind, ok := kindOf(t.Name)
	header := []string{"id", "person_id", "visit_occurrence_id", "care_site_id", "start_datetime", "end_datetime", "code", "label", "value", "unit"}
	if kind == hospital.Patients {
		header = []string{"person_id", "gender", "birth_date", "death_date", "active"}
	}
	keep := columns(header, t.Columns)
	if err := out.Write(pick(header, keep)); err != nil || !ok {
		out.Flush()
		return cmp.Or(err, out.Error())
	}
	id, err := strconv.ParseInt(cmp.Or(t.CohortID, persons), 10, 64)
	if err != nil {
		return fmt.Errorf("cohortId is not a number")
	}
	list, err := s.cfg.Lists.Get(id)
	if err != nil {
		return err
	}
	if list.Kind == kind {
		list.Members.Each(func(i int32) bool { return out.Write(pick(s.row(kind, i), keep)) == nil })
	} else {
		patients, err := s.cfg.Lists.PatientsOf(id)
		if err != nil {
			return err
		}
		patients.Each(func(p int32) bool {
			from, to := s.cfg.Hospital.Span(kind, p)
			for i := from; i < to; i++ {
				if out.Write(pick(s.row(kind, i), keep)) != nil {
					return false
				}
			}
			return true
		})
	}
	out.Flush()
	return out.Error()
}

func (s *Server) row(k hospital.Kind, i int32) []string {
	row := s.cfg.Hospital.Row(k, i)
	p := row.P
	if k == hospital.Patients {
		gender := "m"
		if p.Female {
			gender = "f"
		}
		return []string{hospital.PatientID(i), gender, at(p.Birth, time.DateOnly), at(p.Death, time.DateOnly), strconv.FormatBool(p.Active)}
	}
	d := s.cfg.Hospital.Describe(k, row)
	value := ""
	if k == hospital.Observations {
		value = strconv.FormatFloat(float64(row.R.Value)/100, 'f', -1, 64)
	}
	site := s.cfg.Hospital.Perimeters()[row.R.Perimeter]
	return []string{hospital.RecordID(k, i), hospital.PatientID(p.Index), hospital.RecordID(hospital.Encounters, row.R.Encounter),
		strconv.FormatInt(site.ID, 10), at(row.R.Start, time.RFC3339), at(row.R.End, time.RFC3339), d.Code, d.Display, value, d.Unit}
}

func at(seconds int64, layout string) string {
	if seconds == hospital.NoTime {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(layout)
}

// columns are the positions of the wanted columns; of none of them wanted, or known: all.
func columns(header, wanted []string) []int {
	var keep []int
	for i, name := range header {
		for _, w := range wanted {
			if w == name {
				keep = append(keep, i)
			}
		}
	}
	if keep == nil {
		for i := range header {
			keep = append(keep, i)
		}
	}
	return keep
}

func pick(row []string, keep []int) []string {
	picked := make([]string, len(keep))
	for i, k := range keep {
		picked[i] = row[k]
	}
	return picked
}

// Authorized tells whether a request carries the token.
func Authorized(r *http.Request, token string) bool {
	return token == "" || r.Header.Get("auth-token") == token
}

// Answer writes JSON.
func Answer(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(value) // the caller may be gone
}
