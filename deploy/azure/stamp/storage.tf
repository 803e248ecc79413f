# The tables: a container for each tenant, so that a right of one is no right of another.

resource "azurerm_storage_account" "tables" {
  name                     = var.storage.account
  resource_group_name      = azurerm_resource_group.stamp.name
  location                 = azurerm_resource_group.stamp.location
  account_kind             = "StorageV2"
  account_tier             = "Standard"
  account_replication_type = var.storage.replication
  # Flat names, as the blob service of the tests has them.
  is_hns_enabled                  = false
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  allow_nested_items_to_be_public = false
  default_to_oauth_authentication = true
  # Keys would open every tenant's container.
  shared_access_key_enabled = false
  tags                      = local.tags

  lifecycle {
    prevent_destroy = true
  }
}

resource "azurerm_storage_container" "stamp" {
  name                  = var.storage.container
  storage_account_id    = azurerm_storage_account.tables.id
  container_access_type = "private"
}

resource "azurerm_storage_container" "tenant" {
  for_each = var.tenants

  name                  = each.key
  storage_account_id    = azurerm_storage_account.tables.id
  container_access_type = "private"
}
