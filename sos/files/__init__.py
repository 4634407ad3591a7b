"""Files of the local system: read safely, watched for changes, made with narrow modes."""
