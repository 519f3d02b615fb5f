variable "project" {
  description = "Google Cloud project."
  type        = string
}

variable "region" {
  description = "Region of the service; the bucket should be in it."
  type        = string
}

variable "function" {
  description = "Which function runs; the service has its name."
  type        = string

  validation {
    condition     = contains(["rerank-cpu-int8", "embed", "chat", "rerank-gpu"], var.function)
    error_message = "function: expected rerank-cpu-int8, embed, chat or rerank-gpu."
  }
}

variable "image" {
  description = "Container image of the function, by digest for a deployment that can be repeated."
  type        = string
}

variable "model_bucket" {
  description = "Bucket with the snapshot, mounted read-only at /models."
  type        = string
}

variable "model_file" {
  description = "The snapshot's name in the bucket."
  type        = string

  validation {
    condition     = can(regex("^[^/].*\\.snap$", var.model_file))
    error_message = "model_file: expected a name in the bucket that ends in .snap."
  }
}

variable "api_keys_secret" {
  description = "Secret Manager secret with the API keys, one a line; null where IAM alone decides."
  type        = string
  default     = null
}

variable "invokers" {
  description = "Who may call the service, as IAM members. Everybody (allUsers) only with api_keys_secret."
  type        = list(string)
  default     = []

  validation {
    condition     = !contains(var.invokers, "allAuthenticatedUsers")
    error_message = "invokers: allAuthenticatedUsers is everybody with any Google account; name members, or allUsers with API keys."
  }
}

variable "gpu" {
  description = "The card, nvidia-l4 or nvidia-rtx-pro-6000; null for functions on CPUs. The latter needs an image built with CUDA 13.2.2 or later."
  type        = string
  default     = null

  validation {
    condition     = var.gpu == null ? true : contains(["nvidia-l4", "nvidia-rtx-pro-6000"], var.gpu)
    error_message = "gpu: expected nvidia-l4 or nvidia-rtx-pro-6000."
  }
}

variable "cpu" {
  description = "Processors."
  type        = string
  default     = "2"
}

variable "memory" {
  description = "Memory: the model, which a mounted bucket puts there, and 512 MiB; for chat 1 GiB of keys and values more."
  type        = string
  default     = "2Gi"
}

variable "concurrency" {
  description = "Requests at a time in one instance; they share micro-batches, and replies share steps. Of chat at most MAX_RUNNING (32)."
  type        = number
  default     = 16
}

variable "max_instances" {
  description = "Most instances, which bounds what abuse can cost. The least is zero."
  type        = number
  default     = 10
}
