package export

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/gin-gonic/gin"
	"github.com/google/uuid"

	"cohortflow/internal/identity"
	"cohortflow/internal/platform/database"
	"cohortflow/internal/platform/fault"
	"cohortflow/internal/platform/web"
)

// ProviderView is an infrastructure provider.
type ProviderView struct {
	UUID uuid.UUID `json:"uuid"`
	Name string    `json:"name"`
}

// DatalabView is a datalab.
type DatalabView struct {
	UUID                   uuid.UUID    `json:"uuid"`
	InfrastructureProvider ProviderView `json:"infrastructure_provider"`
	CreatedAt              web.Datetime `json:"created_at"`
	Name                   string       `json:"name"`
}

type datalabBody struct {
	Name                   string    `json:"name"`
	InfrastructureProvider uuid.UUID `json:"infrastructure_provider"`
}

type providerBody struct {
	Name string `json:"name"`
}

func (p Provider) view() ProviderView { return ProviderView{p.UUID, p.Name} }

func (d Datalab) view() DatalabView {
	return DatalabView{d.UUID, d.Provider.view(), web.Datetime(d.CreatedAt), d.Name}
}

// labFilter narrows the lists of datalabs and providers.
type labFilter struct {
	name, provider string
	search         []string
	order          []web.Order
}

func (s *Store) listDatalabs(ctx context.Context, f labFilter, p web.Page) (listed[Datalab], error) {
	q := s.db.Read(ctx).Model(&Datalab{}).Joins("JOIN infrastructure_provider p ON p.uuid = datalab.infrastructure_provider_id").Where("datalab.deleted IS NULL")
	if f.name != "" {
		q = q.Where("datalab.name = ?", f.name)
	}
	if f.provider != "" {
		q = q.Where(database.Contains("p.name", f.provider))
	}
	for _, term := range f.search {
		q = q.Where(anyContains(term, "datalab.name", "p.name"))
	}
	return pageOf[Datalab](listing{what: "datalabs", query: q, preload: "Provider", order: f.order, last: "datalab.created_at, datalab.uuid",
		by: map[string]string{"created_at": "datalab.created_at", "name": "datalab.name"}}, p)
}

func (s *Store) listProviders(ctx context.Context, f labFilter, p web.Page) (listed[Provider], error) {
	q := s.db.Read(ctx).Model(&Provider{}).Where("deleted IS NULL")
	if f.name != "" {
		q = q.Where("name = ?", f.name)
	}
	for _, term := range f.search {
		q = q.Where(database.Contains("name", term))
	}
	return pageOf[Provider](listing{what: "providers", query: q, order: f.order, by: map[string]string{"name": "name"}, last: "created_at, uuid"}, p)
}

func (s *Store) provider(ctx context.Context, id uuid.UUID) (Provider, error) {
	var p Provider
	err := s.db.Read(ctx).Where("uuid = ? AND deleted IS NULL", id).Take(&p).Error
	return p, orNotFound(err, "InfrastructureProvider")
}

// nameTaken tells whether another datalab has the name; a deleted one counts, for the database counts it (exports.md 14).
func (s *Store) nameTaken(ctx context.Context, name string, except uuid.UUID) (bool, error) {
	var n int64
	if err := s.db.Read(ctx).Model(&Datalab{}).Where("name = ? AND uuid <> ?", name, except).Count(&n).Error; err != nil {
		return false, fmt.Errorf("look for a datalab of the same name: %w", err)
	}
	return n > 0, nil
}

// mayRead and mayManage are the rights over datalabs and providers; they are asked before anything else.
func (r routes) mayRead(c *gin.Context) error {
	return allowed(r.service.cfg.Rights.ReadsDatalabs(c.Request.Context(), identity.CallerOf(c).Username))
}

func (r routes) mayManage(c *gin.Context) error {
	return allowed(r.service.cfg.Rights.ManagesDatalabs(c.Request.Context(), identity.CallerOf(c).Username))
}

func allowed(ok bool, err error) error {
	if err == nil && !ok {
		err = fault.Forbidden{}
	}
	return err
}

// guarded asks for the right before the handler runs.
func guarded(may, do func(c *gin.Context) error) func(c *gin.Context) error {
	return func(c *gin.Context) error {
		if err := may(c); err != nil {
			return err
		}
		return do(c)
	}
}

func (r routes) datalabs() web.Table {
	const tag = "datalabs"
	lists := []web.Param{text("name", "the whole name"), text("search", ""), text("ordering", "name; for datalabs created_at too")}
	read := func(do func(c *gin.Context) error) func(c *gin.Context) error { return guarded(r.mayRead, do) }
	manage := func(do func(c *gin.Context) error) func(c *gin.Context) error { return guarded(r.mayManage, do) }
	return web.Table{
		{Method: "GET", Path: "/exports/datalabs/", Summary: "List datalabs", Tag: tag, Paged: web.ByPage, Query: append(lists, text("infra_provider", "a part of its name")),
			Out: web.PageOf[DatalabView]{}, For: web.AnyUser, Do: read(r.listDatalabs)},
		{Method: "POST", Path: "/exports/datalabs/", Summary: "Add a datalab", Tag: tag, Body: datalabBody{}, Out: DatalabView{}, Status: 201, For: web.AnyUser, Do: manage(r.createDatalab)},
		{Method: "GET", Path: "/exports/datalabs/:uuid/", Summary: "One datalab", Tag: tag, Out: DatalabView{}, For: web.AnyUser, Do: read(r.datalab)},
		{Method: "PATCH", Path: "/exports/datalabs/:uuid/", Summary: "Change a datalab", Tag: tag, Body: datalabBody{}, Out: DatalabView{}, For: web.AnyUser, Do: manage(r.changeDatalab)},
		{Method: "GET", Path: "/exports/infrastructure-providers/", Summary: "List providers", Tag: tag, Paged: web.ByOffset, Query: lists,
			Out: web.PageOf[ProviderView]{}, For: web.AnyUser, Do: read(r.listProviders)},
		{Method: "POST", Path: "/exports/infrastructure-providers/", Summary: "Add a provider", Tag: tag, Body: providerBody{}, Out: ProviderView{}, Status: 201, For: web.AnyUser, Do: manage(r.createProvider)},
		{Method: "GET", Path: "/exports/infrastructure-providers/:uuid/", Summary: "One provider", Tag: tag, Out: ProviderView{}, For: web.AnyUser, Do: read(r.provider)},
		{Method: "PATCH", Path: "/exports/infrastructure-providers/:uuid/", Summary: "Change a provider", Tag: tag, Body: providerBody{}, Out: ProviderView{}, For: web.AnyUser, Do: manage(r.changeProvider)},
		{Method: "DELETE", Path: "/exports/infrastructure-providers/:uuid/", Summary: "Delete a provider; its datalabs stay", Tag: tag, Status: 204, For: web.AnyUser, Do: manage(r.deleteProvider)},
	}
}

func (r routes) listDatalabs(c *gin.Context) error {
	page, err := web.NumberedPage(c)
	if err != nil {
		return err
	}
	q := web.QueryOf(c)
	f := labFilter{name: q.Text("name"), provider: q.Text("infra_provider"), search: q.Search(), order: q.Ordering("created_at", "name")}
	if err := q.Err(); err != nil {
		return err
	}
	list, err := r.service.store.listDatalabs(c.Request.Context(), f, page)
	if err != nil {
		return err
	}
	envelope(c, list, Datalab.view)
	return nil
}

func (r routes) datalab(c *gin.Context) error {
	return answerOne(c, r.service.store.datalab, Datalab.view)
}

const msgTaken = "datalab with this name already exists."

// readDatalab takes a body over into a datalab.
func (s *Service) readDatalab(ctx context.Context, body web.Object, partial bool, into *Datalab) error {
	fields := web.FieldsOf(body, partial)
	ref := fields.Ref("infrastructure_provider", web.Required)
	if ref.Set {
		p, err := s.store.provider(ctx, ref.Value)
		if errors.Is(err, fault.NotFound{Model: "InfrastructureProvider"}) {
			fields.Add("infrastructure_provider", web.NoSuchRow(ref.Value))
		} else if err != nil {
			return err
		}
		into.InfrastructureProviderID, into.Provider = p.UUID, p
	}
	name := fields.String("name", web.Required, web.MaxLen(255))
	if name.Set {
		if strings.Contains(name.Value, " ") {
			fields.Add("name", "No spaces allowed")
		} else if taken, err := s.store.nameTaken(ctx, name.Value, into.UUID); err != nil {
			return err
		} else if taken {
			fields.Add("name", msgTaken)
		}
		into.Name = name.Value
	}
	return fields.Err()
}

func (r routes) createDatalab(c *gin.Context) error {
	now := r.service.cfg.Clock.Now()
	return r.writeDatalab(c, Datalab{Base: Base{UUID: r.service.cfg.NewID(), CreatedAt: now}}, true)
}

func (r routes) changeDatalab(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	d, err := r.service.store.datalab(c.Request.Context(), id)
	if err != nil {
		return err
	}
	return r.writeDatalab(c, d, false)
}

func (r routes) writeDatalab(c *gin.Context, d Datalab, isNew bool) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	if err := r.service.readDatalab(c.Request.Context(), body, !isNew, &d); err != nil {
		return err
	}
	d.ModifiedAt = r.service.cfg.Clock.Now()
	err = r.service.store.save(c.Request.Context(), &d, isNew)
	if _, taken := database.UniqueViolation(err); taken { // somebody else was faster
		return fault.Field("name", msgTaken)
	}
	if err != nil {
		return err
	}
	status := http.StatusOK
	if isNew {
		status = http.StatusCreated
	}
	web.JSON(c, status, d.view())
	return nil
}

func (r routes) listProviders(c *gin.Context) error {
	q := web.QueryOf(c)
	f := labFilter{name: q.Text("name"), search: q.Search(), order: q.Ordering("name")}
	if err := q.Err(); err != nil {
		return err
	}
	list, err := r.service.store.listProviders(c.Request.Context(), f, web.OffsetPage(c))
	if err != nil {
		return err
	}
	envelope(c, list, Provider.view)
	return nil
}

func (r routes) provider(c *gin.Context) error {
	return answerOne(c, r.service.store.provider, Provider.view)
}

func (r routes) createProvider(c *gin.Context) error {
	now := r.service.cfg.Clock.Now()
	return r.writeProvider(c, Provider{Base: Base{UUID: r.service.cfg.NewID(), CreatedAt: now}}, true)
}

func (r routes) changeProvider(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	p, err := r.service.store.provider(c.Request.Context(), id)
	if err != nil {
		return err
	}
	return r.writeProvider(c, p, false)
}

func (r routes) writeProvider(c *gin.Context, p Provider, isNew bool) error {
	body, err := web.Body(c)
	if err != nil {
		return err
	}
	fields := web.FieldsOf(body, !isNew)
	p.Name = fields.String("name", web.Required, web.MaxLen(255)).Or(p.Name)
	if err := fields.Err(); err != nil {
		return err
	}
	p.ModifiedAt = r.service.cfg.Clock.Now()
	if err := r.service.store.save(c.Request.Context(), &p, isNew); err != nil {
		return err
	}
	status := http.StatusOK
	if isNew {
		status = http.StatusCreated
	}
	web.JSON(c, status, p.view())
	return nil
}

func (r routes) deleteProvider(c *gin.Context) error {
	id, err := web.UUID(c, "uuid")
	if err != nil {
		return err
	}
	if err := r.service.store.softDelete(c.Request.Context(), "infrastructure_provider", "InfrastructureProvider", id, r.service.cfg.Clock.Now()); err != nil {
		return err
	}
	web.Empty(c, http.StatusNoContent)
	return nil
}
