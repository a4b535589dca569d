package database

import (
	_ "embed"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"
	"gorm.io/gorm"
)

// The migrations of the old system's release 3.29, one a line: application, blank, name (contract: schema.md 2.2).
//
//go:embed migrations/ledger.txt
var ledgerText string

// migration is one row of the old system's ledger.
type migration struct{ App, Name string }

// ledger329 is what the old system finds applied in a database of release 3.29.
func ledger329() []migration {
	var rows []migration
	for line := range strings.Lines(ledgerText) {
		app, name, _ := strings.Cut(strings.TrimSpace(line), " ")
		rows = append(rows, migration{App: app, Name: name})
	}
	return rows
}

// right is a row of accesses_right. Rights are reference data: who may manage accesses is read from them.
type right struct {
	name, label, category             string
	global, sameLevel, below, inherit bool
}

// rights in the order in which clients see them (contract: schema.md 8.1); the labels are shown by the portal.
var rights = []right{
	{name: "right_full_admin", label: "Administrateur", category: "Administration", global: true},
	{name: "right_manage_users", label: "Gérer la liste des utilisateurs", category: "Utilisateurs", global: true},
	{name: "right_manage_data_accesses_same_level", label: "Gérer les accès aux données patient d'un périmètre exclusivement", category: "Gestion des Accès Données", sameLevel: true},
	{name: "right_manage_data_accesses_inferior_levels", label: "Gérer les accès aux données patient des sous-périmètres exclusivement", category: "Gestion des Accès Données", below: true, inherit: true},
	{name: "right_manage_admin_accesses_same_level", label: "Gérer les accès administrateurs d'un périmètre exclusivement", category: "Gestion des Accès Administrateurs", sameLevel: true},
	{name: "right_manage_admin_accesses_inferior_levels", label: "Gérer les accès administrateurs des sous-périmètres exclusivement", category: "Gestion des Accès Administrateurs", below: true, inherit: true},
	{name: "right_read_patient_nominative", label: "Lecture de données patient nominatives", category: "Lecture de Données Patient", inherit: true},
	{name: "right_read_patient_pseudonymized", label: "Lecture de données patient pseudonymisées", category: "Lecture de Données Patient", inherit: true},
	{name: "right_search_patients_by_ipp", label: "Chercher les patients par IPP", category: "Recherche de Patients", global: true},
	{name: "right_search_patients_unlimited", label: "Chercher les patients sans limite de périmètre (PP)", category: "Recherche de Patients", global: true},
	{name: "right_search_opposed_patients", label: "Chercher les patients opposés à l'utilisation de leurs données pour la recherche", category: "Recherche de Patients", global: true},
	{name: "right_export_jupyter_nominative", label: "Exporter ses cohortes de patients sous forme nominative vers un environnement Jupyter", category: "Exports Jupyter", global: true},
	{name: "right_export_jupyter_pseudonymized", label: "Exporter ses cohortes de patients sous forme pseudonymisée vers un environnement Jupyter", category: "Exports Jupyter", global: true},
	{name: "right_export_csv_xlsx_nominative", label: "Exporter ses cohortes de patients sous forme nominative en format CSV-Excel", category: "Exports CSV-Excel", global: true},
	{name: "right_manage_datalabs", label: "Gérer la liste des datalabs", category: "Datalabs", global: true},
	{name: "right_read_datalabs", label: "Consulter la liste des datalabs", category: "Datalabs", global: true},
}

// seed fills a database that step "contract" has just created with what the old system's migrations would have put there:
// the rights, a first infrastructure provider, and the ledger, so that the old system can take the database back.
func seed(tx *gorm.DB, now time.Time) error {
	for _, r := range rights {
		if err := tx.Exec(`INSERT INTO accesses_right (insert_datetime, update_datetime, name, label, category, is_global,
			allow_edit_accesses_on_same_level, allow_edit_accesses_on_inf_levels, impact_inferior_levels)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			now, now, r.name, r.label, r.category, r.global, r.sameLevel, r.below, r.inherit).Error; err != nil {
			return fmt.Errorf("seed right %s: %w", r.name, err)
		}
	}
	if err := tx.Exec(`UPDATE accesses_right
		SET depends_on_id = (SELECT id FROM accesses_right WHERE name = 'right_manage_datalabs')
		WHERE name = 'right_read_datalabs'`).Error; err != nil {
		return fmt.Errorf("seed the dependence of rights: %w", err)
	}
	if err := tx.Exec(`INSERT INTO infrastructure_provider (uuid, deleted_by_cascade, created_at, modified_at, name)
		VALUES (?, false, ?, ?, 'Main')`, uuid.New(), now, now).Error; err != nil {
		return fmt.Errorf("seed the infrastructure provider: %w", err)
	}
	for _, m := range ledger329() {
		if err := tx.Exec("INSERT INTO django_migrations (app, name, applied) VALUES (?, ?, ?)", m.App, m.Name, now).Error; err != nil {
			return fmt.Errorf("seed the ledger: %w", err)
		}
	}
	return nil
}
