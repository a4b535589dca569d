package cohort

import (
	"archive/zip"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"html"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"cohortflow/internal/platform/fault"
)

// studyAbout is what a feasibility report says about its origin.
type studyAbout struct {
	CreatedAt    time.Time
	RequestID    uuid.UUID
	RequestName  string
	Version      int
	SnapshotTime time.Time
}

func (s *Service) aboutStudy(ctx context.Context, id uuid.UUID) (studyAbout, error) {
	var about studyAbout
	res := s.db.Read(ctx).Table("cohort_feasibilitystudy f").
		Joins("JOIN cohort_requestquerysnapshot s ON s.uuid = f.request_query_snapshot_id").
		Joins("JOIN cohort_request r ON r.uuid = s.request_id").Where("f.uuid = ?", id).
		Select("f.created_at, r.uuid AS request_id, r.name AS request_name, s.version, s.created_at AS snapshot_time").Limit(1).Find(&about)
	if res.Error == nil && res.RowsAffected == 0 {
		return about, fault.NotFound{Model: "FeasibilityStudy"}
	}
	return about, res.Error
}

// fileName is the name of the report's files without their extension (cohort.md 23.3): made of a name that a user gave, so
// nothing in it may look like a path.
func (a studyAbout) fileName() string {
	words := strings.Fields(strings.Map(func(r rune) rune {
		if r < ' ' || strings.ContainsRune(`/\:*?"<>|`, r) {
			return '_'
		}
		return r
	}, a.RequestName))
	return fmt.Sprintf("Rapport_%s_%s...", a.CreatedAt.UTC().Format("02-01-2006"), strings.Join(words[:min(len(words), 4)], " "))
}

// place is a perimeter in a report.
type place struct {
	ID              int64
	ParentID        *int64
	Level           *int64
	CohortID        *string
	Name            *string
	TypeSourceValue *string
	children        []*place
}

// places are the roots of the perimeters that a report shows (cohort.md 23.1): a perimeter whose type is not reported hides
// what is below it.
func (s *Service) places(ctx context.Context) ([]*place, error) {
	var rows []*place
	err := s.db.Read(ctx).Table("accesses_perimeter").Where("delete_datetime IS NULL").
		Select("id, parent_id, level, cohort_id, name, type_source_value").Order("id").Find(&rows).Error
	if err != nil {
		return nil, fmt.Errorf("read perimeters: %w", err)
	}
	byID := make(map[int64]*place, len(rows))
	for _, p := range rows {
		byID[p.ID] = p
	}
	var roots []*place
	for _, p := range rows {
		switch {
		case p.ParentID == nil:
			if p.Level != nil && *p.Level == 1 {
				roots = append(roots, p)
			}
		case byID[*p.ParentID] != nil && p.TypeSourceValue != nil && slices.Contains(s.cfg.ReportingTypes, *p.TypeSourceValue):
			parent := byID[*p.ParentID]
			parent.children = append(parent.children, p)
		}
	}
	return roots, nil
}

// bounded hides exact numbers of patients.
func bounded(n int64) string {
	switch {
	case n <= 0:
		return "0"
	case n < 10:
		return "< 10"
	}
	return fmt.Sprintf("%d-%d", n/10*10, n/10*10+10)
}

// writer builds both documents in one walk, in tree order.
type reportWriter struct {
	sizes map[string]int64
	json  strings.Builder
	html  strings.Builder
	depth int
}

// maxTree bounds the walk: a tree of perimeters is a dozen levels deep, a circle of adopted parents endless.
const maxTree = 100

func (w *reportWriter) list(places []*place) {
	if len(places) == 0 || w.depth > maxTree {
		return
	}
	w.depth++
	w.html.WriteString(`<ul class="perimeters-tree">`)
	for _, p := range places {
		w.item(p)
	}
	w.html.WriteString("</ul>")
	w.depth--
}

func (w *reportWriter) item(p *place) {
	id, name := text(p.CohortID), text(p.Name)
	size := bounded(w.sizes[id])
	key, _ := json.Marshal(id)
	if w.json.Len() > 0 {
		w.json.WriteString(", ")
	}
	fmt.Fprintf(&w.json, "%s: %q", key, size)
	id = html.EscapeString(id)
	fmt.Fprintf(&w.html, `<li class="item"><input type="checkbox" id="p%[1]s"><div class="label-count"><label for="p%[1]s">%[2]s</label>`+
		`<span id="count_p%[1]s">%[3]s</span></div>`, id, html.EscapeString(name), html.EscapeString(size))
	w.list(p.children)
	w.html.WriteString("</li>")
}

func text(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// buildReport makes the two documents of a study, each in a zip (cohort.md 23).
func (s *Service) buildReport(ctx context.Context, id uuid.UUID, sizes map[string]int64) (asJSON, asHTML []byte, err error) {
	about, err := s.aboutStudy(ctx, id)
	if err != nil {
		return nil, nil, err
	}
	roots, err := s.places(ctx)
	if err != nil {
		return nil, nil, err
	}
	w := reportWriter{sizes: sizes}
	w.list(roots)
	page, err := s.renderer.File("feasibility_report.html", map[string]any{"html_content": w.html.String(), "request_name": about.RequestName,
		"request_version": about.Version, "request_date": about.SnapshotTime.UTC(), "request_url": s.cfg.Links.Request(about.RequestID.String())})
	if err != nil {
		return nil, nil, fmt.Errorf("render the report: %w", err)
	}
	if asJSON, err = zipped(about.fileName()+".json", "{"+w.json.String()+"}", s.clock.Now()); err != nil {
		return nil, nil, err
	}
	asHTML, err = zipped(about.fileName()+".html", page, s.clock.Now())
	return asJSON, asHTML, err
}

// zipped is an archive of one file.
func zipped(name, content string, at time.Time) ([]byte, error) {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	w, err := z.CreateHeader(&zip.FileHeader{Name: name, Method: zip.Deflate, Modified: at})
	if err == nil {
		_, err = w.Write([]byte(content))
	}
	if err == nil {
		err = z.Close()
	}
	if err != nil {
		return nil, fmt.Errorf("zip %s: %w", name, err)
	}
	return b.Bytes(), nil
}
