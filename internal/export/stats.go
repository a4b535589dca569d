package export

import (
	"context"
	"errors"
	"net/http"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"
	"gorm.io/gorm"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

func (r routes) stats() web.Table {
	const tag = "exports"
	return web.Table{
		{Method: "GET", Path: "/exports/export-stats/", Summary: "Figures about exports", Tag: tag, Paged: web.ByOffset, Out: web.PageOf[StatView]{}, For: web.AnyUser,
			Do: r.listStats, Query: []web.Param{{Name: "export", Type: "uuid"}, text("type", "Integer, Text, SizeBytes"), text("name", "a part of it"),
				text("export_target_name", "a part of it"), text("ordering", "name, type, value, export")}},
		{Method: "POST", Path: "/exports/export-stats/", Summary: "Note a figure", Tag: tag, Body: statBody{}, Out: StatView{}, Status: 201, For: web.AnyUser, Do: r.createStat},
		{Method: "GET", Path: "/exports/export-stats/:uuid/", Summary: "One figure", Tag: tag, Out: StatView{}, For: web.OwnerOrAdmin, Do: r.stat},
		{Method: "PATCH", Path: "/exports/export-stats/:uuid/", Summary: "Change a figure", Tag: tag, Body: statBody{}, Out: StatView{}, For: web.OwnerOrAdmin, Do: r.changeStat},
	}
}

// StatView is a figure about an export.
type StatView struct {
	UUID             uuid.UUID     `json:"uuid"`
	ExportTarget     *string       `json:"export_target"`
	Deleted          *web.Datetime `json:"deleted"`
	DeletedByCascade bool          `json:"deleted_by_cascade"`
	CreatedAt        web.Datetime  `json:"created_at"`
	ModifiedAt       web.Datetime  `json:"modified_at"`
	Name             string        `json:"name"`
	Type             string        `json:"type"`
	Value            string        `json:"value"`
	Export           uuid.UUID     `json:"export"`
}

type statBody struct {
	Name   string    `json:"name"`
	Type   string    `json:"type" enum:"Integer,Text,SizeBytes"`
	Value  string    `json:"value"`
	Export uuid.UUID `json:"export"`
}

func (s Stat) view() StatView {
	return StatView{UUID: s.UUID, ExportTarget: s.Target, Deleted: web.DatetimeOf(s.Deleted), DeletedByCascade: s.DeletedByCascade,
		CreatedAt: web.Datetime(s.CreatedAt), ModifiedAt: web.Datetime(s.ModifiedAt), Name: s.Name, Type: s.Type, Value: s.Value, Export: s.ExportID}
}

var statTypes = []string{"Integer", "Text", "SizeBytes"}

// statFilter narrows the list of figures; with onlyOwner, to those about the exports of one user (decision 3).
type statFilter struct {
	onlyOwner          string
	export             *uuid.UUID
	kind, name, target string
	order              []web.Order
}

func stats(q *gorm.DB, onlyOwner string) *gorm.DB {
	q = q.Table("export_result_stat st").Joins("JOIN export ON export.uuid = st.export_id AND export.deleted IS NULL").Where("st.deleted IS NULL")
	if onlyOwner != "" {
		q = q.Where("export.owner_id = ?", onlyOwner)
	}
	return q
}

const statColumns = "st.*, export.target_name AS target"

var statOrders = map[string]string{"name": "st.name", "type": "st.type", "value": "st.value", "export": "export.target_name"}

func (s *Store) listStats(ctx context.Context, f statFilter, p web.Page) (listed[Stat], error) {
	q := stats(s.db.Read(ctx), f.onlyOwner)
	if f.export != nil {
		q = q.Where("st.export_id = ?", *f.export)
	}
	if f.kind != "" {
		q = q.Where("st.type = ?", f.kind)
	}
	if f.name != "" {
		q = q.Where(database.Contains("st.name", f.name))
	}
	if f.target != "" {
		q = q.Where(database.Contains("export.target_name", f.target))
	}
	return pageOf[Stat](listing{what: "figures", query: q, columns: statColumns, order: f.order, by: statOrders, last: "st.created_at, st.uuid"}, p)
}

func (s *Store) oneStat(ctx context.Context, id uuid.UUID, onlyOwner string) (Stat, error) {
	var one Stat
	err := stats(s.db.Read(ctx), onlyOwner).Select(statColumns).Where("st.uuid = ?", id).Take(&one).Error
	return one, orNotFound(err, "ExportResultStat")
}

// ownExports is the caller, or "" for full admins, who see all.
func (s *Service) ownExports(ctx context.Context, caller identity.Caller) (onlyOwner string, err error) {
	admin, err := s.cfg.Rights.IsFullAdmin(ctx, caller.Username)
	if err != nil || admin {
		return "", err
	}
	return caller.Username, nil
}

func (r routes) listStats(c *gin.Context) error {
	ctx := c.Request.Context()
	q := web.QueryOf(c)
	f := statFilter{export: q.UUID("export"), kind: q.Choice("type", statTypes...), name: q.Text("name"), target: q.Text("export_target_name"),
		order: q.Ordering("name", "type", "value", "export")}
	if f.export != nil {
		_, err := r.service.Get(ctx, identity.CallerOf(c), *f.export)
		if errors.Is(err, fault.NotFound{Model: "Export"}) {
			q.Refuse("export", web.NoSuchChoice)
		} else if err != nil {
			return err
		}
	}
	var err error
	if err = q.Err(); err != nil {
		return err
	}
	if f.onlyOwner, err = r.service.ownExports(ctx, identity.CallerOf(c)); err != nil {
		return err
	}
	list, err := r.service.store.listStats(ctx, f, web.OffsetPage(c))
	if err != nil {
		return err
	}
	envelope(c, list, Stat.view)
	return nil
}

func (r routes) stat(c *gin.Context) error {
	return answerOne(c, func(ctx context.Context, id uuid.UUID) (Stat, error) {
		only, err := r.service.ownExports(ctx, identity.CallerOf(c))
		if err != nil {
			return Stat{}, err
		}
		return r.service.store.oneStat(ctx, id, only)
	}, Stat.view)
}

// readStat takes a body over into a figure.
func (s *Service) readStat(ctx context.Context, caller identity.Caller, body web.Object, partial bool, into *Stat) error {
	fields := web.FieldsOf(body, partial)
	name := fields.String("name", web.Required, web.MaxLen(55))
	kind := fields.Choice("type", statTypes, web.Required)
	value := fields.String("value", web.Required, web.MaxLen(55))
	export := fields.Ref("export", web.Required)
	if export.Set {
		e, err := s.Get(ctx, caller, export.Value)
		if errors.Is(err, fault.NotFound{Model: "Export"}) {
			fields.Add("export", web.NoSuchRow(export.Value))
		} else if err != nil {
			return err
		}
		into.Target = e.TargetName
	}
	into.Name, into.Type, into.Value, into.ExportID = name.Or(into.Name), kind.Or(into.Type), value.Or(into.Value), export.Or(into.ExportID)
	return fields.Err()
}

func (r routes) createStat(c *gin.Context) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	now := r.service.cfg.Clock.Now()
	one := Stat{Base: Base{UUID: r.service.cfg.NewID(), CreatedAt: now, ModifiedAt: now}}
	if err := r.service.readStat(c.Request.Context(), identity.CallerOf(c), body, false, &one); err != nil {
		return err
	}
	if err := r.service.store.save(c.Request.Context(), &one, true); err != nil {
		return err
	}
	web.JSON(c, http.StatusCreated, one.view())
	return nil
}

func (r routes) changeStat(c *gin.Context) error {
	ctx, caller := c.Request.Context(), identity.CallerOf(c)
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	only, err := r.service.ownExports(ctx, caller)
	if err != nil {
		return err
	}
	one, err := r.service.store.oneStat(ctx, id, only)
	if err != nil {
		return err
	}
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	if err := r.service.readStat(ctx, caller, body, true, &one); err != nil {
		return err
	}
	one.ModifiedAt = r.service.cfg.Clock.Now()
	if err := r.service.store.save(ctx, &one, false); err != nil {
		return err
	}
	web.JSON(c, http.StatusOK, one.view())
	return nil
}
