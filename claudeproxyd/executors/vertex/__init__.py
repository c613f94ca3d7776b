"""Models on Vertex AI: Claude by rawPredict, Gemini by generateContent."""
