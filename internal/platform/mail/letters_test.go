package mail

import (
	"bytes"
	"html"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"cohortflow/templates"

	"github.com/stretchr/testify/require"
)

var (
	links  = Links{Frontend: "https://c360.example.org/", BackendHost: "api.example.org"}
	cohort = SourceCohort{GroupID: "88123", Name: "Grippe d'hiver"}
	moment = time.Date(2026, 3, 5, 10, 4, 5, 60_000, time.UTC)
)

// full are all letters with every value, the subjects that users know, and what both forms must say.
var full = []struct {
	letter  Letter
	subject string
	says    []string
}{
	{SharedRequest{"Bob B (bob)", "Alice MARTIN", "R <1>"}, "Alice MARTIN a partagé une requête avec vous", []string{"Bob B (bob)", "Alice MARTIN", "R <1>"}},
	{FeasibilityRequested{"Bob B (bob)", "R 1"}, "Votre demande de rapport", []string{"R 1"}},
	{FeasibilityReady{"Bob B (bob)", "R 1", links.Study("f1")}, "Votre rapport est prêt", []string{"R 1", "https://c360.example.org/download/feasibility-studies/f1/"}},
	{FeasibilityError{"Bob B (bob)", "R 1"}, "Votre demande de rapport a échoué", []string{"R 1"}},
	{CountRefreshed{"Bob B (bob)", "R 1", 3}, "Votre requête a été bien rafraichie", []string{"R 1 (version 3)"}},
	{LargeCohortReady{"Bob B (bob)", "C 1", links.Cohort("99001")}, "Votre cohorte est prête", []string{"C 1", "https://c360.example.org/cohort?groupId=99001"}},
	{AccessExpiry{"Bob B (bob)", 30, "https://intra.example.org/managers"}, "Expiration de vos accès à Cohort360", []string{"Bob B (bob)", "30", "https://intra.example.org/managers"}},
	{
		OrbisReport{SyncTime: moment, SkippedRoles: []string{"0_MIM", "0_AIDE"}, MissingPerimeters: []string{"8312"}, OrbisAccesses: 12, NewAccesses: 7},
		"Rapport de synchronisation des accès ORBIS", []string{"05/03/2026 10:04:05", "0_MIM", "0_AIDE", "8312", "12", "7"},
	},
	{ServerError{moment, "GET", "/users/:username/", 3}, "[Cohortflow] Internal Server Error: GET /users/:username/", []string{"05/03/2026 10:04:05", "/users/:username/", "3"}},
	{
		ExportReceived{RecipientName: "Bob B (bob)", Cohort: cohort, SelectedTables: []string{"person", "note"}},
		"[Cohorte 88123] Demande d'export `Grippe d'hiver` reçue", []string{"88123", "person", "note"},
	},
	{
		ExportReceived{RecipientName: "Bob B (bob)", Cohort: cohort, Hive: true, Retried: true, SelectedTables: []string{"person", "note"}},
		"[Cohorte 88123] Demande reçue de transfert en environnement Jupyter", []string{"88123", "person", "note", "relancé"},
	},
	{
		ExportSucceeded{RecipientName: "Bob B (bob)", Cohort: cohort, SelectedTables: []string{"person"}, DownloadURL: links.Export("e1"), DatabaseName: "bob_2026", DeleteDate: moment},
		"[Cohorte 88123] Export `Grippe d'hiver` terminé", []string{"https://c360.example.org/download/exports/e1/", "bob_2026", "05 March 2026", "person"},
	},
	{
		ExportSucceeded{RecipientName: "Bob B (bob)", Cohort: cohort, Hive: true, SelectedTables: []string{"person"}, DatabaseName: "bob_2026"},
		"[Cohorte 88123] Export `Grippe d'hiver` terminé", []string{"bob_2026", "person"},
	},
	{ExportFailed{"Bob B (bob)", cohort, "plus de place"}, "[Cohorte 88123] Votre demande d'export `Grippe d'hiver` n'a pas abouti", []string{"88123", "plus de place"}},
	{
		ExportFailedAdmins{Cohort: cohort, ExportID: "e1", ExportDate: moment, Host: links.Host(), ErrorMessage: "plus de place", JobID: "j9", JobDuration: "0:01:02"},
		"Demande d'export échouée", []string{"88123", "Grippe d'hiver", "e1", "2026-03-05T10:04:05.000060+00:00", "https://api.example.org", "plus de place", "j9", "0:01:02", "Admin"},
	},
	{ExportFilesDeleted{"Bob B (bob)", cohort}, "[Cohorte 88123] Confirmation de suppression de fichiers exportés", []string{"88123"}},
}

func renderer(t *testing.T, mounted fs.FS) (*Renderer, *bytes.Buffer) {
	t.Helper()
	logs := &bytes.Buffer{}
	r, err := NewRenderer(templates.Files(), mounted, "/static/", slog.New(slog.NewTextHandler(logs, nil)))
	require.NoError(t, err)
	return r, logs
}

func TestLettersSayEverything(t *testing.T) {
	t.Parallel()
	r, _ := renderer(t, nil)
	var kinds []Kind
	for _, c := range full {
		d := c.letter.draft()
		kinds = append(kinds, d.kind)
		t.Run(string(d.kind)+"/"+d.template, func(t *testing.T) {
			t.Parallel()
			m, err := Compose([]string{"bob@example.org"}, c.letter)
			require.NoError(t, err)
			require.Equal(t, c.subject, m.Subject)
			m.Data["contact_email_address"] = "support@example.org"
			text, htm, err := r.Mail(m.Template, m.Data)
			require.NoError(t, err)
			for _, fact := range append(c.says, m.Data["recipient_name"].(string)) {
				require.Contains(t, text, fact)
				require.Contains(t, htm, html.EscapeString(fact))
			}
			for _, form := range []string{text, htm} {
				require.NotContains(t, form, "{{")
				require.NotContains(t, form, "{%")
			}
			require.NotContains(t, text, "<p>")
			require.NotContains(t, text, "\n\n\n")
			requireEachValueUsed(t, r, m)
		})
	}
	for _, entry := range Catalogue() {
		require.Contains(t, kinds, entry.Kind)
	}
}

// requireEachValueUsed leaves each value out in turn: the mail must then read differently, so that none is forgotten.
func requireEachValueUsed(t *testing.T, r *Renderer, m Message) {
	t.Helper()
	text, htm, err := r.Mail(m.Template, m.Data)
	require.NoError(t, err)
	for name, value := range m.Data {
		if isEmpty(value) || value == false {
			continue
		}
		fewer := map[string]any{}
		for other, v := range m.Data {
			if other != name {
				fewer[other] = v
			}
		}
		text2, htm2, err := r.Mail(m.Template, fewer)
		require.NoError(t, err)
		if name == "contact_email_address" && (text == text2) == (htm == htm2) {
			continue // shown by most mails, but it must be by both forms or by none
		}
		require.NotEqual(t, text, text2, name)
		require.NotEqual(t, htm, htm2, name)
	}
}

func TestLettersCannotForgetAValue(t *testing.T) {
	t.Parallel()
	for letter, missing := range map[Letter]string{
		SharedRequest{RequestName: "R"}:                                   "compose mail shared_request: missing owner_name, recipient_name",
		FeasibilityReady{RecipientName: "B", RequestName: "R"}:            "compose mail feasibility_report_ready: missing download_url",
		LargeCohortReady{RecipientName: " ", CohortURL: "u"}:              "compose mail large_cohort_finished: missing recipient_name",
		ExportFailedAdmins{ExportID: "e"}:                                 "compose mail export_failed_admins: missing export_date, host",
		ExportFilesDeleted{Cohort: cohort}:                                "compose mail exported_files_deleted: missing recipient_name",
		AccessExpiry{ExpiryDays: 2, ManagersLink: "https://example.org/"}: "compose mail access_expiry_alert: missing recipient_name",
	} {
		_, err := Compose(nil, letter)
		require.EqualError(t, err, missing)
	}
	_, err := Compose(nil, ExportSucceeded{RecipientName: "B", DatabaseName: "d"})
	require.EqualError(t, err, "compose mail export_succeeded: missing delete_date, download_url")
	m, err := Compose(nil, CountRefreshed{RecipientName: "B", Version: 2})
	require.NoError(t, err)
	require.Equal(t, "(sans nom) (version 2)", m.Data["request_name"])
}

func TestLettersWithoutOptionalValues(t *testing.T) {
	t.Parallel()
	r, _ := renderer(t, nil)
	for _, c := range []struct {
		letter  Letter
		subject string
		without []string
	}{
		{ExportFailed{RecipientName: "B"}, "[Cohorte None] Votre demande d'export `None` n'a pas abouti", []string{"Motif", "Une question"}},
		{ExportFailedAdmins{ExportID: "e", ExportDate: moment, Host: "h"}, "Demande d'export échouée", []string{"Motif", "Durée", "Tâche"}},
		{ExportReceived{RecipientName: "B", Cohort: cohort}, "[Cohorte 88123] Demande d'export `Grippe d'hiver` reçue", []string{"Tables", "relancé"}},
		{AccessExpiry{RecipientName: "B"}, "Expiration de vos accès à Cohort360", []string{"gestionnaires"}},
		{ServerError{At: moment, Method: "GET", Route: "/"}, "[Cohortflow] Internal Server Error: GET /", []string{"Autres"}},
		{OrbisReport{SyncTime: moment, Username: "bob"}, "Rapport de synchronisation des accès ORBIS pour l'utilisateur bob", []string{"sans équivalent", "inconnus"}},
	} {
		m, err := Compose(nil, c.letter)
		require.NoError(t, err)
		require.Equal(t, c.subject, m.Subject)
		text, htm, err := r.Mail(m.Template, m.Data)
		require.NoError(t, err)
		for _, absent := range c.without {
			require.NotContains(t, text, absent)
			require.NotContains(t, htm, absent)
		}
	}
}

func TestCatalogueAndFilesAgree(t *testing.T) {
	t.Parallel()
	files := []string{"email_base_template.html", "email_base_template.txt", "feasibility_report.html", LogoFile}
	for _, entry := range Catalogue() {
		require.NotEmpty(t, entry.Requires)
		for _, name := range entry.Templates {
			files = append(files, name+".html", name+".txt")
		}
	}
	var embedded []string
	entries, err := fs.ReadDir(templates.Files(), ".")
	require.NoError(t, err)
	for _, entry := range entries {
		embedded = append(embedded, entry.Name())
	}
	slices.Sort(files)
	require.Equal(t, files, embedded)
}

func TestMountedTemplates(t *testing.T) {
	t.Parallel()
	mounted := fstest.MapFS{
		"email_base_template.html":      {Data: []byte("{% load static %}<b>{% static 'img/a.png' %}|{{`{{ recipient_name }}`}}|{% block content %}{% endblock content %}</b>")},
		"email_base_template.txt":       {Data: []byte("TXT {{`{{ recipient_name }}`}} {% block content %}{% endblock %}")},
		"feasibility_report_error.html": {Data: []byte("{% extends \"email_base_template.html\" %}\n{% block content %}H {{`{{ request_name }}`}}{% endblock %}")},
		"feasibility_report_error.txt":  {Data: []byte("{% extends 'email_base_template.html' %}{% block content %}T {{`{{ request_name }}`}} {{ nothing.at.all }}{% endblock content %}")},
		"dates.html":                    {Data: []byte(`{{ at|date:'d/m/Y H:i' }} {{ at | date:"j F y\T" }} {{ raw|safe }} {{ raw }}{% for x in list %}[{{ x }}{{ forloop.Counter }}]{% endfor %}{% if a.b == "c" %}yes{% else %}no{% endif %}`)},
		"shared_request.html":           {Data: []byte("{% if %} broken {{ owner_name }}")},
		"exported_files_deleted.txt":    {Data: []byte("{% ssi \"/etc/passwd\" %}")},
	}
	r, logs := renderer(t, mounted)
	for _, broken := range []string{"shared_request.html", "exported_files_deleted.txt"} {
		require.Contains(t, logs.String(), "template="+broken)
	}
	require.Equal(t, 2, strings.Count(logs.String(), "level=WARN"))
	logs.Reset()
	text, htm, err := r.Mail("feasibility_report_error", map[string]any{"recipient_name": "O'Hara", "request_name": "<R>"})
	require.NoError(t, err)
	require.Equal(t, "<b>/static/img/a.png|O&#39;Hara|H &lt;R&gt;</b>", htm)
	require.Equal(t, "TXT O'Hara T <R>\n", text)

	out, err := r.File("dates.html", map[string]any{"at": moment, "raw": "<i>", "list": []string{"x", "y"}, "a": map[string]any{"b": "c"}})
	require.NoError(t, err)
	require.Equal(t, "05/03/2026 10:04 5 March 26T <i> &lt;i&gt;[x1][y2]yes", out)
	require.Empty(t, logs.String())

	text, htm, err = r.Mail("shared_request", map[string]any{"owner_name": "Secret Person", "request_name": "R"})
	require.NoError(t, err)
	require.Contains(t, htm, "Secret Person")
	require.Contains(t, text, "Secret Person")
	require.Contains(t, logs.String(), "shared_request.html")
	require.NotContains(t, logs.String(), "Secret")
	text, _, err = r.Mail("exported_files_deleted", map[string]any{"cohort_id": "88"})
	require.NoError(t, err)
	require.Contains(t, text, "88")
	require.NotContains(t, text, "root:")
}

func TestMountedDirectory(t *testing.T) {
	t.Parallel()
	none, err := Mounted("")
	require.NoError(t, err)
	require.Nil(t, none)
	dir := t.TempDir()
	_, err = Mounted(dir + "/missing")
	require.Error(t, err)
	require.NoError(t, os.WriteFile(dir+"/shared_request.txt", []byte("ours: {{`{{ request_name }}`}}"), 0o600))
	_, err = Mounted(dir + "/shared_request.txt")
	require.Error(t, err)
	mounted, err := Mounted(dir)
	require.NoError(t, err)
	r, _ := renderer(t, mounted)
	text, htm, err := r.Mail("shared_request", map[string]any{"request_name": "a < b", "owner_name": "A B"})
	require.NoError(t, err)
	require.Equal(t, "ours: a < b\n", text)
	require.Contains(t, htm, "a &lt; b")
}

func TestTemplateNamesStayInside(t *testing.T) {
	t.Parallel()
	r, _ := renderer(t, fstest.MapFS{"x.html": {Data: []byte(`{% include "../../../etc/passwd" %}`)}})
	for _, name := range []string{"none", "../templates", "x"} {
		_, _, err := r.Mail(name, nil)
		require.ErrorIs(t, err, ErrTemplate, name)
		require.True(t, IsPermanent(err))
	}
}

func TestFeasibilityReport(t *testing.T) {
	t.Parallel()
	r, _ := renderer(t, nil)
	out, err := r.File("feasibility_report.html", map[string]any{
		"request_name": "A & B", "request_version": 4, "request_date": moment, "request_url": links.Request("r1"), "html_content": `<ul class="perimeters-tree"></ul>`,
	})
	require.NoError(t, err)
	for _, fact := range []string{"A &amp; B", "<dd>4</dd>", "05/03/2026 10:04", "https://c360.example.org/cohort/new/r1", `<ul class="perimeters-tree"></ul>`} {
		require.Contains(t, out, fact)
	}
	require.False(t, strings.Contains(out, "{{"))
}

func TestLinksEscapeIDs(t *testing.T) {
	t.Parallel()
	require.Equal(t, "https://c360.example.org/cohort?groupId=a%26b", links.Cohort("a&b"))
	require.Equal(t, "https://c360.example.org/download/exports/..%2Fx/", links.Export("../x"))
}
