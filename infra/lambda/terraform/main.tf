# One function and its URL, in either form of ../README.md: an image with SnapStart, or a zip that restores from S3.

locals {
  is_image    = var.image_uri != null
  streams     = var.function == "chat"
  model_in_s3 = var.model_bucket != null && var.model_key != null
  settings = {
    CACHE_DIR = "/tmp/defrost"
    # As the URL's invoke_mode below: a whole answer ends at 6 MB, a stream at 200.
    INVOKE_MODE  = "response_stream"
    CORS_ORIGINS = "none"
    LOG_FORMAT   = "json"
  }
  # A reply ends before the function's own time does, which would take the copy with it.
  stream_settings = local.streams ? { REQUEST_TIMEOUT = "870" } : {}
  model_settings  = local.model_in_s3 ? { MODEL = "s3://${var.model_bucket}/${var.model_key}" } : {}
  key_settings    = var.api_keys_secret != null ? { API_KEYS = data.aws_secretsmanager_secret_version.keys[0].secret_string } : {}
}

data "aws_partition" "current" {}

data "aws_secretsmanager_secret_version" "keys" {
  count     = var.api_keys_secret != null ? 1 : 0
  secret_id = var.api_keys_secret
}

data "aws_iam_policy_document" "assume" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

data "aws_iam_policy_document" "needed" {
  statement {
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${aws_cloudwatch_log_group.logs.arn}:*"]
  }

  dynamic "statement" {
    for_each = local.model_in_s3 ? [1] : []

    content {
      actions   = ["s3:GetObject"]
      resources = ["arn:${data.aws_partition.current.partition}:s3:::${var.model_bucket}/${var.model_key}"]
    }
  }

  dynamic "statement" {
    for_each = var.model_kms_key_arn != null ? [1] : []

    content {
      actions   = ["kms:Decrypt"]
      resources = [var.model_kms_key_arn]
    }
  }
}

resource "aws_cloudwatch_log_group" "logs" {
  name              = "/defrost/${var.name}"
  retention_in_days = var.log_retention_days
}

resource "aws_iam_role" "function" {
  name               = "${var.name}-${var.region}"
  assume_role_policy = data.aws_iam_policy_document.assume.json
}

resource "aws_iam_role_policy" "needed" {
  name   = "own-logs-and-one-model"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.needed.json
}

resource "aws_lambda_function" "service" {
  function_name                  = var.name
  description                    = "defrost ${var.function}"
  role                           = aws_iam_role.function.arn
  package_type                   = local.is_image ? "Image" : "Zip"
  image_uri                      = var.image_uri
  filename                       = var.zip_path
  source_code_hash               = var.zip_path != null ? filebase64sha256(var.zip_path) : null
  runtime                        = local.is_image ? null : "provided.al2023"
  handler                        = local.is_image ? null : "bootstrap"
  architectures                  = ["x86_64"]
  memory_size                    = var.memory_mb
  timeout                        = local.streams ? 900 : var.timeout_s
  reserved_concurrent_executions = var.reserved_concurrency
  publish                        = true

  environment {
    variables = merge(local.settings, local.stream_settings, local.model_settings, local.key_settings)
  }

  ephemeral_storage {
    size = local.is_image ? 512 : var.ephemeral_mb
  }

  logging_config {
    log_format = "Text"
    log_group  = aws_cloudwatch_log_group.logs.name
  }

  # SnapStart refuses zips of provided.al2023.
  dynamic "snap_start" {
    for_each = local.is_image ? [1] : []

    content {
      apply_on = "PublishedVersions"
    }
  }

  lifecycle {
    precondition {
      condition     = (var.image_uri == null) != (var.zip_path == null)
      error_message = "Give image_uri or zip_path, and not both."
    }

    precondition {
      condition     = local.is_image || local.model_in_s3
      error_message = "The zip has no model: give model_bucket and model_key."
    }
  }

  depends_on = [aws_iam_role_policy.needed]
}

resource "aws_lambda_alias" "live" {
  name             = "live"
  function_name    = aws_lambda_function.service.function_name
  function_version = aws_lambda_function.service.version
}

resource "aws_lambda_function_url" "service" {
  function_name      = aws_lambda_function.service.function_name
  qualifier          = aws_lambda_alias.live.name
  authorization_type = "AWS_IAM"
  invoke_mode        = "RESPONSE_STREAM"
}
