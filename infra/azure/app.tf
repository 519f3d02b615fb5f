# The function as a container app: no replica while no request comes, one more for every `concurrent_requests` at a time.
#
# The snapshot is a file of the mounted share, which the loader reads into memory. The port is bound before that, so the startup
# probe, which may fail 30 times here and no more, asks only whether the process lives; whether the model is there is asked by
# the readiness probe, every second and for as long as it takes, and requests pass the moment it succeeds.
# `make stop` and `make run` stop and start the app without Terraform.
#
# A reply of chat is streamed through the ingress, which ends a request after 240 s: REQUEST_TIMEOUT is less, so that the
# function's log tells why, and a replica that is stopped may finish what it has begun.
#
# rerank-gpu runs in a profile of its environment that has a GPU, and takes all of a replica there. Which profile that may be
# is decided by the kernels in the binary: they are compiled for compute capability 8.0 and up.

resource "azurerm_container_app" "function" {
  count                        = var.deploy_app ? 1 : 0
  name                         = var.function
  resource_group_name          = azurerm_resource_group.defrost.name
  container_app_environment_id = azurerm_container_app_environment.defrost.id
  revision_mode                = "Single"
  workload_profile_name        = local.gpu ? "gpu" : null
  tags                         = local.tags

  identity {
    type         = "UserAssigned"
    identity_ids = [azurerm_user_assigned_identity.app.id]
  }

  registry {
    server   = azurerm_container_registry.images.login_server
    identity = azurerm_user_assigned_identity.app.id
  }

  secret {
    name  = "api-keys"
    value = var.api_keys
  }

  ingress {
    external_enabled           = true
    target_port                = 8000
    transport                  = "http"
    allow_insecure_connections = false

    traffic_weight {
      latest_revision = true
      percentage      = 100
    }
  }

  template {
    min_replicas                     = 0
    max_replicas                     = var.max_replicas
    cooldown_period_in_seconds       = var.cooldown_seconds
    termination_grace_period_seconds = local.streams ? 240 : 10

    http_scale_rule {
      name                = "requests"
      concurrent_requests = var.concurrent_requests
    }

    volume {
      name         = "models"
      storage_type = "AzureFile"
      storage_name = azurerm_container_app_environment_storage.models.name
    }

    container {
      name   = var.function
      image  = "${azurerm_container_registry.images.login_server}/${var.function}:${var.image_tag}"
      cpu    = local.gpu ? local.gpu_cpu : var.container_cpu
      memory = local.gpu ? local.gpu_memory : var.container_memory

      env {
        name  = "HOST"
        value = "0.0.0.0"
      }

      env {
        name  = "PORT"
        value = "8000"
      }

      env {
        name  = "MODEL"
        value = "/models/${var.model_file}"
      }

      env {
        name  = "CACHE_DIR"
        value = "/tmp/defrost"
      }

      dynamic "env" {
        for_each = local.streams ? { REQUEST_TIMEOUT = "230", SHUTDOWN_GRACE = "235" } : {}

        content {
          name  = env.key
          value = env.value
        }
      }

      env {
        name        = "API_KEYS"
        secret_name = "api-keys"
      }

      env {
        name  = "CORS_ORIGINS"
        value = var.cors_origins
      }

      env {
        name  = "LOG_LEVEL"
        value = var.log_level
      }

      env {
        name  = "LOG_FORMAT"
        value = "json"
      }

      volume_mounts {
        name = "models"
        path = "/models"
      }

      startup_probe {
        transport               = "HTTP"
        path                    = "/live"
        port                    = 8000
        interval_seconds        = 1
        timeout                 = 1
        failure_count_threshold = 30
      }

      readiness_probe {
        transport               = "HTTP"
        path                    = "/health"
        port                    = 8000
        interval_seconds        = 1
        timeout                 = 1
        failure_count_threshold = 1
      }

      liveness_probe {
        transport               = "HTTP"
        path                    = "/live"
        port                    = 8000
        interval_seconds        = 30
        timeout                 = 5
        failure_count_threshold = 3
      }
    }
  }

  lifecycle {
    precondition {
      condition     = local.streams ? var.container_cpu >= 2 && var.concurrent_requests <= 32 : true
      error_message = "function: chat keeps 1 GiB of keys and values beside the model and runs 32 replies at once; give it container_cpu=2 or more, and concurrent_requests of 32 at most."
    }
  }

  depends_on = [azurerm_role_assignment.pulls_images]
}
