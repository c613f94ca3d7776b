"""How far the token estimate is off, measured on fifty conversations that real tokenizers have counted."""
