package access

import (
	"strconv"
	"strings"
	"time"

	"cohortflow/internal/platform/web"
)

// stampsView are the three moments that most representations begin with.
type stampsView struct {
	InsertDatetime *web.Datetime `json:"insert_datetime"`
	UpdateDatetime *web.Datetime `json:"update_datetime"`
	DeleteDatetime *web.Datetime `json:"delete_datetime"`
}

func viewStamps(s Stamps) stampsView {
	return stampsView{web.DatetimeOf(s.InsertDatetime), web.DatetimeOf(s.UpdateDatetime), web.DatetimeOf(s.DeleteDatetime)}
}

// perimeterNames are the texts of a perimeter once more, as the portal reads them.
type perimeterNames struct {
	Name        *string `json:"name"`
	Short       *string `json:"short"`
	SourceValue *string `json:"source_value"`
}

// perimeterView is accesses.md 8.7.
type perimeterView struct {
	ID                      int64          `json:"id"`
	ParentID                *string        `json:"parent_id"` // a text, unlike all other ids
	CareSiteID              int64          `json:"care_site_id"`
	CareSiteName            *string        `json:"care_site_name"`
	CareSiteSourceValue     *string        `json:"care_site_source_value"`
	CareSiteShortName       *string        `json:"care_site_short_name"`
	CareSiteTypeSourceValue *string        `json:"care_site_type_source_value"`
	Type                    *string        `json:"type"`
	Names                   perimeterNames `json:"names"`
	stampsView
	LocalID                         string  `json:"local_id"`
	Name                            *string `json:"name"`
	SourceValue                     *string `json:"source_value"`
	ShortName                       *string `json:"short_name"`
	TypeSourceValue                 *string `json:"type_source_value"`
	AboveLevelsIDs                  *string `json:"above_levels_ids"`
	InferiorLevelsIDs               *string `json:"inferior_levels_ids"`
	CohortID                        *string `json:"cohort_id"`
	FullPath                        *string `json:"full_path"`
	CohortSize                      *string `json:"cohort_size"`
	Level                           *int    `json:"level"`
	CountAllowedUsers               *int    `json:"count_allowed_users"`
	CountAllowedUsersInferiorLevels *int    `json:"count_allowed_users_inferior_levels"`
	CountAllowedUsersAboveLevels    *int    `json:"count_allowed_users_above_levels"`
}

func parentText(p *Perimeter) *string {
	if p.ParentID == nil {
		return nil
	}
	return new(strconv.FormatInt(*p.ParentID, 10))
}

func viewPerimeter(p *Perimeter) perimeterView {
	return perimeterView{
		ID: p.ID, ParentID: parentText(p), CareSiteID: p.ID, CareSiteName: p.Name, CareSiteSourceValue: p.SourceValue,
		CareSiteShortName: p.ShortName, CareSiteTypeSourceValue: p.TypeSourceValue, Type: p.TypeSourceValue,
		Names: perimeterNames{p.Name, p.ShortName, p.SourceValue}, stampsView: viewStamps(p.Stamps), LocalID: p.LocalID,
		Name: p.Name, SourceValue: p.SourceValue, ShortName: p.ShortName, TypeSourceValue: p.TypeSourceValue,
		AboveLevelsIDs: p.AboveLevelsIDs, InferiorLevelsIDs: p.InferiorLevelsIDs, CohortID: p.CohortID, FullPath: p.FullPath,
		CohortSize: p.CohortSize, Level: p.Level, CountAllowedUsers: p.CountAllowedUsers,
		CountAllowedUsersInferiorLevels: p.CountAllowedUsersInferiorLevels, CountAllowedUsersAboveLevels: p.CountAllowedUsersAboveLevels,
	}
}

// perimeterLite is accesses.md 8.8.
type perimeterLite struct {
	ID                int64   `json:"id"`
	Name              *string `json:"name"`
	SourceValue       *string `json:"source_value"`
	ParentID          *string `json:"parent_id"`
	Type              *string `json:"type"`
	AboveLevelsIDs    *string `json:"above_levels_ids"`
	InferiorLevelsIDs *string `json:"inferior_levels_ids"`
	CohortID          *string `json:"cohort_id"`
	CohortSize        *string `json:"cohort_size"`
	FullPath          *string `json:"full_path"`
}

func viewLite(p *Perimeter) perimeterLite {
	return perimeterLite{
		ID: p.ID, Name: p.Name, SourceValue: p.SourceValue, ParentID: parentText(p), Type: p.TypeSourceValue,
		AboveLevelsIDs: p.AboveLevelsIDs, InferiorLevelsIDs: p.InferiorLevelsIDs, CohortID: p.CohortID, CohortSize: p.CohortSize,
		FullPath: p.FullPath,
	}
}

// readRightView is accesses.md 8.12.
type readRightView struct {
	Perimeter     perimeterLite `json:"perimeter"`
	ReadRole      string        `json:"read_role"`
	Nominative    bool          `json:"right_read_patient_nominative"`
	Pseudonymized bool          `json:"right_read_patient_pseudonymized"`
	SearchByIPP   bool          `json:"right_search_patients_by_ipp"`
	ReadOpposed   bool          `json:"right_read_opposed_patients_data"`
}

// roleView is accesses.md 8.3.
type roleView struct {
	ID int64 `json:"id"`
	stampsView
	HelpText []string `json:"help_text"`
	Name     *string  `json:"name"`
	Flags
}

func viewRole(r *Role) roleView {
	return roleView{r.ID, viewStamps(r.Stamps), helpText(r.Rights()), r.Name, r.Flags}
}

// helpTexts are the rights that have a text of their own, in the order of the catalogue (accesses.md 4.2).
var helpTexts = []struct {
	right Rights
	text  string
}{
	{FullAdmin, "Super user"},
	{ManageUsers, "Gérer la liste des utilisateurs/profils"},
	{ReadNominative, "Lire les données patient sous forme nominatives sur son périmètre et ses sous-périmètres"},
	{ReadPseudonymized, "Lire les données patient sous forme pseudonymisée sur son périmètre et ses sous-périmètres"},
	{SearchByIPP, "Utiliser une liste d'IPP comme critère d'une requête Cohort."},
	{SearchOpposed, "Détermine le droit de chercher les patients opposés à l'utilisation de leurs données pour la recherche"},
	{ExportJupyterNominative, "Exporter ses cohortes de patients sous forme nominative vers un environnement Jupyter."},
	{ExportJupyterPseudonymized, "Exporter ses cohortes de patients sous forme pseudonymisée vers un environnement Jupyter."},
	{ExportCSVXLSXNominative, "Demander à exporter ses cohortes de patients sous forme nominative en format CSV/Excel."},
	{ManageDatalabs, "Gérer les environnements de travail"},
	{ReadDatalabs, "Consulter la liste des environnements de travail"},
}

// helpText says in words what a role allows.
func helpText(rights Rights) []string {
	texts := []string{}
	for _, h := range helpTexts {
		if rights.Has(h.right) {
			texts = append(texts, h.text)
		}
	}
	levels := func(root string, same, inferior Rights) {
		switch {
		case rights.HasAll(same | inferior):
			texts = append(texts, root+" sur un périmètre et ses sous-périmètres")
		case rights.Has(same):
			texts = append(texts, root+" sur un périmètre exclusivement")
		case rights.Has(inferior):
			texts = append(texts, root+" sur les sous-périmètres exclusivement")
		}
	}
	levels("Gérer les accès des administrateurs", ManageAdminSameLevel, ManageAdminInferiorLevels)
	levels("Gérer les accès aux données patients", ManageDataSameLevel, ManageDataInferiorLevels)
	return texts
}

// person is what is shown of a user.
type person struct {
	Username  *string
	Email     *string
	Firstname *string
	Lastname  *string
	Deleted   *time.Time
}

// display is "Firstname Lastname (username)", nil when there is nobody.
func (p person) display() *string {
	if p.Username == nil {
		return nil
	}
	name := strings.TrimSpace(deref(p.Firstname) + " " + deref(p.Lastname))
	name = strings.TrimSpace(name + " (" + *p.Username + ")")
	if p.Deleted != nil {
		name += " (deleted)"
	}
	return &name
}

// profileView is accesses.md 8.5: without a user, four keys are left out.
type profileView struct {
	ID int64 `json:"id"`
	stampsView
	IsActive  *bool   `json:"is_active"`
	UserID    *string `json:"user_id"`
	Firstname *named  `json:"firstname,omitempty"`
	Lastname  *named  `json:"lastname,omitempty"`
	Email     *named  `json:"email,omitempty"`
	Provider  *string `json:"provider_id"`
	Display   *named  `json:"provider_name,omitempty"`
	Source    *string `json:"source"`
	User      *string `json:"user"`
}

// named is a nullable text that can also be absent.
type named struct{ text *string }

// MarshalJSON implements json.Marshaler.
func (n named) MarshalJSON() ([]byte, error) {
	if n.text == nil {
		return []byte("null"), nil
	}
	return marshalText(*n.text)
}

func viewProfile(r *profileRow) profileView {
	view := profileView{
		ID: r.ID, stampsView: viewStamps(r.Stamps), IsActive: r.IsActive, UserID: r.UserID, Provider: r.UserID, Source: r.Source,
		User: r.UserID,
	}
	if r.Holder.Username != nil {
		view.Firstname, view.Lastname = &named{r.Holder.Firstname}, &named{r.Holder.Lastname}
		view.Email, view.Display = &named{r.Holder.Email}, &named{r.Holder.display()}
	}
	return view
}

// profileBrief is accesses.md 8.6.
type profileBrief struct {
	ID         int64   `json:"id"`
	ProviderID *string `json:"provider_id"`
	Username   *string `json:"username"`
	Email      *string `json:"email"`
	Firstname  *string `json:"firstname"`
	Lastname   *string `json:"lastname"`
	Source     *string `json:"source"`
}

// accessView is accesses.md 8.9.
type accessView struct {
	ID          int64          `json:"id"`
	IsValid     bool           `json:"is_valid"`
	Profile     *profileBrief  `json:"profile"`
	CareSite    *struct{}      `json:"care_site"` // {} wherever there is a perimeter: clients expect the key
	Role        *roleView      `json:"role"`
	ActualStart *web.Datetime  `json:"actual_start_datetime"`
	ActualEnd   *web.Datetime  `json:"actual_end_datetime"`
	Start       *web.Datetime  `json:"start_datetime"`
	End         *web.Datetime  `json:"end_datetime"`
	Perimeter   *perimeterView `json:"perimeter"`
	PerimeterID *int64         `json:"perimeter_id"`
	CreatedBy   *string        `json:"created_by"`
	UpdatedBy   *string        `json:"updated_by"`
	Editable    *bool          `json:"editable,omitempty"`
}

// expiringView is accesses.md 8.10.
type expiringView struct {
	Start     *web.Datetime `json:"start_datetime"`
	End       *web.Datetime `json:"end_datetime"`
	Profile   *string       `json:"profile"`
	Perimeter *string       `json:"perimeter"`
}

func viewAccess(d *Detail) accessView {
	start, end := web.DatetimeOf(d.StartDatetime), web.DatetimeOf(d.EndDatetime)
	view := accessView{
		ID: d.ID, IsValid: d.Valid, ActualStart: start, ActualEnd: end, Start: start, End: end, PerimeterID: d.PerimeterID,
		CreatedBy: d.Creator.display(), UpdatedBy: d.Updater.display(), Editable: d.Editable,
	}
	if d.ProfileID != nil {
		view.Profile = &profileBrief{
			*d.ProfileID, d.Holder.Username, d.Holder.Username, d.Holder.Email, d.Holder.Firstname, d.Holder.Lastname, d.ProfileSource,
		}
	}
	if d.Role != nil {
		view.Role = new(viewRole(d.Role))
	}
	if d.Perimeter != nil {
		view.CareSite, view.Perimeter = &struct{}{}, new(viewPerimeter(d.Perimeter))
	}
	return view
}

func viewExpiring(d *Detail) expiringView {
	view := expiringView{Start: web.DatetimeOf(d.StartDatetime), End: web.DatetimeOf(d.EndDatetime), Profile: d.Holder.display()}
	if d.Perimeter != nil {
		view.Perimeter = d.Perimeter.Name
	}
	return view
}

// roleUserView is accesses.md 8.4. Its moments have a form of their own.
type roleUserView struct {
	Username  string `json:"provider_username"`
	Firstname string `json:"firstname"`
	Lastname  string `json:"lastname"`
	Email     string `json:"email"`
	Perimeter string `json:"perimeter"`
	Start     string `json:"start_datetime"`
	End       string `json:"end_datetime"`
}

// spacedDatetime is the moment with a blank and a numeric offset.
func spacedDatetime(t time.Time) string {
	if t = t.UTC(); t.Nanosecond()/1000 == 0 {
		return t.Format("2006-01-02 15:04:05+00:00")
	}
	return t.Format("2006-01-02 15:04:05.000000+00:00")
}
