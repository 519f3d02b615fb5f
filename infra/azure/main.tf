# What the app stands on: resource group, registry, storage share, logs, environment, budget.

locals {
  tags         = merge({ project = "defrost" }, var.tags)
  compact_name = replace("${var.name}${var.suffix}", "-", "")
  # Replies of minutes, sent as they are made.
  streams = var.function == "chat"
  gpu     = var.function == "rerank-gpu" || var.gpu_profile != null
  # What one replica of that profile has: 24 processors, 220 GiB and one A100 with 80 GB.
  gpu_profile = coalesce(var.gpu_profile, "Consumption-GPU-NC24-A100")
  gpu_cpu     = 24
  gpu_memory  = "220Gi"
}

resource "azurerm_resource_group" "defrost" {
  name     = "${var.name}-rg"
  location = var.location
  tags     = local.tags
}

resource "azurerm_container_registry" "images" {
  name                = "${local.compact_name}acr"
  resource_group_name = azurerm_resource_group.defrost.name
  location            = azurerm_resource_group.defrost.location
  sku                 = "Basic"
  admin_enabled       = false
  tags                = local.tags
}

resource "azurerm_storage_account" "models" {
  name                            = "${substr(local.compact_name, 0, 22)}st"
  resource_group_name             = azurerm_resource_group.defrost.name
  location                        = azurerm_resource_group.defrost.location
  account_tier                    = "Standard"
  account_replication_type        = "LRS"
  min_tls_version                 = "TLS1_2"
  https_traffic_only_enabled      = true
  allow_nested_items_to_be_public = false
  tags                            = local.tags
}

resource "azurerm_storage_share" "models" {
  name               = "models"
  storage_account_id = azurerm_storage_account.models.id
  quota              = var.share_gb
}

resource "azurerm_log_analytics_workspace" "logs" {
  name                = "${var.name}-logs"
  resource_group_name = azurerm_resource_group.defrost.name
  location            = azurerm_resource_group.defrost.location
  sku                 = "PerGB2018"
  retention_in_days   = var.log_retention_days
  daily_quota_gb      = 1
  tags                = local.tags
}

resource "azurerm_container_app_environment" "defrost" {
  name                       = "${var.name}-env"
  resource_group_name        = azurerm_resource_group.defrost.name
  location                   = azurerm_resource_group.defrost.location
  logs_destination           = "log-analytics"
  log_analytics_workspace_id = azurerm_log_analytics_workspace.logs.id
  tags                       = local.tags

  dynamic "workload_profile" {
    for_each = local.gpu ? [local.gpu_profile] : []

    content {
      name                  = "gpu"
      workload_profile_type = workload_profile.value
    }
  }
}

# The platform mounts shares with the key of the account; the function itself never sees it.
resource "azurerm_container_app_environment_storage" "models" {
  name                         = "models"
  container_app_environment_id = azurerm_container_app_environment.defrost.id
  account_name                 = azurerm_storage_account.models.name
  access_key                   = azurerm_storage_account.models.primary_access_key
  share_name                   = azurerm_storage_share.models.name
  access_mode                  = "ReadOnly"
}

resource "azurerm_user_assigned_identity" "app" {
  name                = "${var.name}-app"
  resource_group_name = azurerm_resource_group.defrost.name
  location            = azurerm_resource_group.defrost.location
  tags                = local.tags
}

resource "azurerm_role_assignment" "pulls_images" {
  scope                = azurerm_container_registry.images.id
  role_definition_name = "AcrPull"
  principal_id         = azurerm_user_assigned_identity.app.principal_id
}

resource "azurerm_consumption_budget_resource_group" "monthly" {
  name              = "${var.name}-monthly"
  resource_group_id = azurerm_resource_group.defrost.id
  amount            = var.monthly_budget
  time_grain        = "Monthly"

  time_period {
    start_date = var.budget_start
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 80
    threshold_type = "Actual"
    contact_emails = var.budget_emails
  }

  notification {
    operator       = "GreaterThan"
    threshold      = 100
    threshold_type = "Forecasted"
    contact_emails = var.budget_emails
  }
}
