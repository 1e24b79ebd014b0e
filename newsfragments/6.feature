The server answers over HTTP on ``rest_api.port`` (8080 on 127.0.0.1): status, Kubernetes probes, Prometheus metrics and
an OpenAPI 3.1 document. The first start writes an administrator's token to ``admin.token`` in the archive;
``pacsctl token`` and ``/api/v1/tokens`` make further ones.
