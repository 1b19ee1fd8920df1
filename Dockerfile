# The image holds one static binary and the CA bundle, nothing else (as upstream's does). Built by `make image`.
FROM scratch
COPY kube-vip /kube-vip
COPY ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
ENTRYPOINT ["/kube-vip"]
