module millrace.dev/tests/cluster/files

go 1.26.0

require (
	github.com/go-acme/lego/v5 v5.4.1
	sigs.k8s.io/gateway-api v1.6.3
	sigs.k8s.io/network-policy-api v0.2.0
)
