"""Amazon Bedrock's Converse API (https://docs.aws.amazon.com/bedrock/latest/APIReference/API_runtime_Converse.html).

For every model on Bedrock that is not Claude.
"""
