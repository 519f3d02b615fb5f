# One function on Cloud Run, as ../rerank.yaml has it: scaled to zero, its model on a bucket that it may only read. With
# `gpu`, as ../rerank-gpu.yaml has it: one card an instance, billed as long as the instance is there, in one zone.

locals {
  # Replies of minutes, sent as they are made.
  streams = var.function == "chat"
  # What the platform asks beside a card, in processors and GiB.
  least = {
    nvidia-l4           = { cpu = 4, memory = 16 }
    nvidia-rtx-pro-6000 = { cpu = 20, memory = 80 }
  }
}

resource "google_service_account" "function" {
  account_id   = "defrost-${var.function}"
  display_name = "defrost ${var.function}"
}

resource "google_storage_bucket_iam_member" "reads_models" {
  bucket = var.model_bucket
  role   = "roles/storage.objectViewer"
  member = google_service_account.function.member
}

resource "google_secret_manager_secret_iam_member" "reads_keys" {
  count     = var.api_keys_secret != null ? 1 : 0
  project   = var.project
  secret_id = var.api_keys_secret
  role      = "roles/secretmanager.secretAccessor"
  member    = google_service_account.function.member
}

resource "google_cloud_run_v2_service" "service" {
  name                = var.function
  location            = var.region
  ingress             = "INGRESS_TRAFFIC_ALL"
  deletion_protection = false

  labels = {
    project = "defrost"
  }

  template {
    service_account                  = google_service_account.function.email
    execution_environment            = "EXECUTION_ENVIRONMENT_GEN2"
    max_instance_request_concurrency = var.concurrency
    timeout                          = local.streams ? "900s" : "300s"
    gpu_zonal_redundancy_disabled    = var.gpu == null ? null : true

    dynamic "node_selector" {
      for_each = var.gpu == null ? [] : [var.gpu]

      content {
        accelerator = node_selector.value
      }
    }

    scaling {
      min_instance_count = 0
      max_instance_count = var.max_instances
    }

    containers {
      name  = var.function
      image = var.image

      ports {
        name           = "http1"
        container_port = 8000
      }

      env {
        name  = "HOST"
        value = "0.0.0.0"
      }

      env {
        name  = "MODEL"
        value = "/models/${var.model_file}"
      }

      env {
        name  = "CACHE_DIR"
        value = "/tmp/defrost"
      }

      env {
        name  = "LOG_FORMAT"
        value = "json"
      }

      # A reply ends before the platform's own time for it does, and the function's log tells why.
      dynamic "env" {
        for_each = local.streams ? [1] : []

        content {
          name  = "REQUEST_TIMEOUT"
          value = "870"
        }
      }

      dynamic "env" {
        for_each = var.api_keys_secret != null ? [1] : []

        content {
          name  = "API_KEYS_FILE"
          value = "/keys/api-keys"
        }
      }

      resources {
        limits            = merge({ cpu = var.cpu, memory = var.memory }, var.gpu == null ? {} : { "nvidia.com/gpu" = "1" })
        cpu_idle          = var.gpu == null
        startup_cpu_boost = true
      }

      startup_probe {
        period_seconds    = 1
        timeout_seconds   = 1
        failure_threshold = 120

        http_get {
          path = "/health"
          port = 8000
        }
      }

      liveness_probe {
        period_seconds  = 30
        timeout_seconds = 5

        http_get {
          path = "/live"
          port = 8000
        }
      }

      volume_mounts {
        name       = "models"
        mount_path = "/models"
      }

      dynamic "volume_mounts" {
        for_each = var.api_keys_secret != null ? [1] : []

        content {
          name       = "keys"
          mount_path = "/keys"
        }
      }
    }

    volumes {
      name = "models"

      gcs {
        bucket    = var.model_bucket
        read_only = true
      }
    }

    dynamic "volumes" {
      for_each = var.api_keys_secret != null ? [1] : []

      content {
        name = "keys"

        secret {
          secret = var.api_keys_secret

          items {
            version = "latest"
            path    = "api-keys"
          }
        }
      }
    }
  }

  lifecycle {
    precondition {
      condition     = !contains(var.invokers, "allUsers") || var.api_keys_secret != null
      error_message = "invokers: allUsers lets everybody in; name the secret with the API keys in api_keys_secret."
    }

    precondition {
      condition     = local.streams ? can(regex("^([4-9]|[1-9][0-9]+)Gi$", var.memory)) && var.concurrency <= 32 : true
      error_message = "function: chat keeps 1 GiB of keys and values beside the model and runs 32 replies at once; give it memory=4Gi or more, and a concurrency of 32 at most."
    }

    precondition {
      condition     = var.function != "rerank-gpu" || var.gpu != null
      error_message = "function: rerank-gpu needs a card; name it in gpu, such as nvidia-l4."
    }

    precondition {
      condition = var.gpu == null ? true : (
        tonumber(var.cpu) >= local.least[var.gpu].cpu && tonumber(trimsuffix(var.memory, "Gi")) >= local.least[var.gpu].memory
      )
      error_message = "gpu: an nvidia-l4 needs at least cpu=4 and memory=16Gi, an nvidia-rtx-pro-6000 cpu=20 and memory=80Gi."
    }
  }

  depends_on = [
    google_storage_bucket_iam_member.reads_models,
    google_secret_manager_secret_iam_member.reads_keys,
  ]
}

resource "google_cloud_run_v2_service_iam_member" "invokes" {
  for_each = toset(var.invokers)
  project  = google_cloud_run_v2_service.service.project
  location = google_cloud_run_v2_service.service.location
  name     = google_cloud_run_v2_service.service.name
  role     = "roles/run.invoker"
  member   = each.value
}
