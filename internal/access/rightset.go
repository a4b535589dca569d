package access

// Rights is a set of the sixteen rights that a role can hold, in the order of the role's columns (accesses.md 3.3).
type Rights uint32

// The rights.
const (
	FullAdmin Rights = 1 << iota
	ManageUsers
	ManageDatalabs
	ReadDatalabs
	ExportCSVXLSXNominative
	ExportJupyterNominative
	ExportJupyterPseudonymized
	ManageAdminSameLevel
	ManageAdminInferiorLevels
	ManageDataSameLevel
	ManageDataInferiorLevels
	ReadNominative
	ReadPseudonymized
	SearchByIPP
	SearchUnlimited
	SearchOpposed

	// AllRights is what a full administrator's role must hold.
	AllRights Rights = 1<<iota - 1
)

// The sets that decisions ask for. They are those of the catalogue's flags (accesses.md 4.1); no client edits the catalogue.
const (
	readingRights = ReadNominative | ReadPseudonymized
	// sameLevelRights let their holder administer accesses on the perimeter itself, inferiorRights on those below.
	sameLevelRights = ManageAdminSameLevel | ManageDataSameLevel
	inferiorRights  = ManageAdminInferiorLevels | ManageDataInferiorLevels
	managingRights  = sameLevelRights | inferiorRights
	// inheritedRights have effect on the perimeters below that of the access.
	inheritedRights = inferiorRights | readingRights
	// wideRights are management rights that no perimeter bounds.
	wideRights = FullAdmin | ManageUsers | ManageDatalabs
)

// Has tells whether at least one of the others is in the set.
func (r Rights) Has(others Rights) bool { return r&others != 0 }

// HasAll tells whether all others are in the set.
func (r Rights) HasAll(others Rights) bool { return r&others == others }

// Flags are a role's rights as the table and the API have them: one boolean each.
type Flags struct {
	FullAdmin                  bool `gorm:"column:right_full_admin" json:"right_full_admin"`
	ManageUsers                bool `gorm:"column:right_manage_users" json:"right_manage_users"`
	ManageDatalabs             bool `gorm:"column:right_manage_datalabs" json:"right_manage_datalabs"`
	ReadDatalabs               bool `gorm:"column:right_read_datalabs" json:"right_read_datalabs"`
	ExportCSVXLSXNominative    bool `gorm:"column:right_export_csv_xlsx_nominative" json:"right_export_csv_xlsx_nominative"`
	ExportJupyterNominative    bool `gorm:"column:right_export_jupyter_nominative" json:"right_export_jupyter_nominative"`
	ExportJupyterPseudonymized bool `gorm:"column:right_export_jupyter_pseudonymized" json:"right_export_jupyter_pseudonymized"`
	ManageAdminSameLevel       bool `gorm:"column:right_manage_admin_accesses_same_level" json:"right_manage_admin_accesses_same_level"`
	ManageAdminInferiorLevels  bool `gorm:"column:right_manage_admin_accesses_inferior_levels" json:"right_manage_admin_accesses_inferior_levels"`
	ManageDataSameLevel        bool `gorm:"column:right_manage_data_accesses_same_level" json:"right_manage_data_accesses_same_level"`
	ManageDataInferiorLevels   bool `gorm:"column:right_manage_data_accesses_inferior_levels" json:"right_manage_data_accesses_inferior_levels"`
	ReadNominative             bool `gorm:"column:right_read_patient_nominative" json:"right_read_patient_nominative"`
	ReadPseudonymized          bool `gorm:"column:right_read_patient_pseudonymized" json:"right_read_patient_pseudonymized"`
	SearchByIPP                bool `gorm:"column:right_search_patients_by_ipp" json:"right_search_patients_by_ipp"`
	SearchUnlimited            bool `gorm:"column:right_search_patients_unlimited" json:"right_search_patients_unlimited"`
	SearchOpposed              bool `gorm:"column:right_search_opposed_patients" json:"right_search_opposed_patients"`
}

// rightNames are the names of the rights in columns, bodies and the catalogue, in the order of their bits.
var rightNames = [...]string{
	"right_full_admin", "right_manage_users", "right_manage_datalabs", "right_read_datalabs",
	"right_export_csv_xlsx_nominative", "right_export_jupyter_nominative", "right_export_jupyter_pseudonymized",
	"right_manage_admin_accesses_same_level", "right_manage_admin_accesses_inferior_levels",
	"right_manage_data_accesses_same_level", "right_manage_data_accesses_inferior_levels",
	"right_read_patient_nominative", "right_read_patient_pseudonymized",
	"right_search_patients_by_ipp", "right_search_patients_unlimited", "right_search_opposed_patients",
}

// Name is the name of a single right; empty for a set of several or none.
func (r Rights) Name() string {
	for i, name := range rightNames {
		if r == 1<<i {
			return name
		}
	}
	return ""
}

func (f *Flags) each() [len(rightNames)]*bool {
	return [...]*bool{
		&f.FullAdmin, &f.ManageUsers, &f.ManageDatalabs, &f.ReadDatalabs,
		&f.ExportCSVXLSXNominative, &f.ExportJupyterNominative, &f.ExportJupyterPseudonymized,
		&f.ManageAdminSameLevel, &f.ManageAdminInferiorLevels, &f.ManageDataSameLevel, &f.ManageDataInferiorLevels,
		&f.ReadNominative, &f.ReadPseudonymized, &f.SearchByIPP, &f.SearchUnlimited, &f.SearchOpposed,
	}
}

// Rights is the set of the flags that are true.
func (f Flags) Rights() (set Rights) {
	for i, flag := range f.each() {
		if *flag {
			set |= 1 << i
		}
	}
	return set
}

// FlagsOf spells a set out.
func FlagsOf(set Rights) (f Flags) {
	for i, flag := range f.each() {
		*flag = set.Has(1 << i)
	}
	return f
}
