variable "stamp" {
  description = "The stamp's id in the catalogue; also its namespace in Kubernetes."
  type        = string
}

variable "region" {
  description = "Azure region of everything here."
  type        = string
}

variable "ring" {
  description = "canary, early or general."
  type        = string
}

variable "environment" {
  description = "test or production."
  type        = string
}

variable "iot_hub" {
  description = "Name without the domain, tier such as S2, units."
  type = object({
    name  = string
    tier  = string
    units = number
  })
}

variable "event_hub" {
  description = "Namespace without the domain, tier, throughput or processing units, name of the hub, and what reads it."
  type = object({
    namespace      = string
    tier           = string
    units          = number
    name           = string
    partitions     = number
    consumer_group = string
    retention_days = optional(number, 7)
  })
}

variable "storage" {
  description = "Account, and the stamp's own container: checkpoints, ownership, quarantine and gaps."
  type = object({
    account     = string
    container   = string
    replication = optional(string, "ZRS")
  })
}

variable "tenants" {
  description = "The tenants of the stamp: each has a container called like it; who besides the service may read it, by principal id."
  type = map(object({
    readers = optional(list(string), [])
  }))
}

variable "cluster" {
  description = "Issuer of the cluster's tokens, and where KEDA's operator runs in it."
  type = object({
    oidc_issuer_url      = string
    keda_namespace       = optional(string, "keda")
    keda_service_account = optional(string, "keda-operator")
  })
}
