// Package ext is where Traefik's commercial edition adds fields; there are none.
package ext

// HTTP is part of the configuration of HTTP.
type HTTP struct{}

// Router is part of that of a router.
type Router struct{}
