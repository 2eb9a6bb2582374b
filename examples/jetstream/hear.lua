-- Somebody who wants to hear of the large orders, those from Europe and Asia alone.

source.jetstream "large" {
  url = env "NATS_URL", stream = "LARGE",
  where = "$headers.subject in ('large.eu', 'large.asia')",
}
sink.file "out" { from = "large", path = "heard.ndjson" }
